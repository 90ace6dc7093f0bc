"""Judge findings: what the policy of each does to its test, what a test allows, and how a finding reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_celerypool.markers import AllowSpec
from pytest_celerypool.trace import Finding, Policy
from pytest_celerypool.verdict import Failure, matching


class Judged(NamedTuple):
    """Findings with their policies, those that are off or allowed left out."""

    findings: list[tuple[Finding, Policy]]

    @property
    def failures(self) -> list[Failure]:
        """What fails the test."""
        return [failure_of(finding) for finding, policy in self.findings if policy == "fail"]

    def data(self) -> list[dict[str, Any]]:
        """Return plain data for the report."""
        return [as_data(finding, policy) for finding, policy in self.findings]


def judge(findings: Iterable[Finding], policy_of: Callable[[str], Policy], allows: Sequence[AllowSpec]) -> Judged:
    """Return which findings count, and how.

    :param policy_of: tells the policy of a kind.
    :param allows: what the test knows of.
    """
    return Judged(
        [
            (finding, policy)
            for finding in findings
            if (policy := policy_of(finding.kind)) != "off" and not allowed(finding, allows)
        ]
    )


def allowed(finding: Finding, allows: Iterable[AllowSpec]) -> bool:
    """Whether a test knows of a finding."""
    return any(finding.kind in allow.kinds and matching.applies(allow.pools, finding.pool) for allow in allows)


def as_data(finding: Finding, policy: Policy) -> dict[str, Any]:
    """Return a finding as plain data, which travels with reports."""
    return {
        "kind": finding.kind,
        "task": finding.task,
        "pool": finding.pool,
        "message": finding.message,
        "evidence": finding.evidence,
        "remedy": finding.remedy,
        "tests": list(finding.tests),
        "key": finding.key,
        "policy": policy,
    }


def headline(finding: Finding) -> str:
    """Return the one line that is enough to know what is wrong."""
    whose = "" if finding.task == "?" else f" {finding.task}"
    return f"{finding.kind}:{whose} under {finding.pool}: {finding.message}"


def failure_of(finding: Finding) -> Failure:
    """Return what a test fails with because of a finding."""
    return Failure(headline(finding), "\n".join(details(finding)))


def details(finding: Finding) -> list[str]:
    """Return the lines below the headline: evidence, what to do, how to live with it."""
    lines = [f"  {line}" for line in finding.evidence.splitlines()]
    return [
        *lines,
        f"  fix: {finding.remedy}",
        f'  or, where it is meant: @pytest.mark.celery_allow("{finding.kind}", reason="…")',
    ]


class Tested(NamedTuple):
    """What a test has to do with a worker that it has given back.

    :ivar test: its node id.
    :ivar ids: the ids of its tasks.
    :ivar names: the names of its tasks.
    :ivar allows: what it knows of.
    """

    test: str
    ids: frozenset[str]
    names: frozenset[str]
    allows: Sequence[AllowSpec]

    def concerns(self, finding: Finding) -> bool:
        """Whether a finding may be of this test."""
        if finding.ids:
            return not self.ids.isdisjoint(finding.ids)
        return finding.task == "?" or finding.task in self.names


def late_findings(
    records: Iterable[Mapping[str, Any]], pool: str, tests: Sequence[Tested], policy_of: Callable[[str], Policy]
) -> list[dict[str, Any]]:
    """Return, as plain data, the findings that a worker wrote down after its last test was judged.

    :param records: of the trace.
    :param pool: the name of the worker's pool.
    :param tests: all that it served.
    :param policy_of: tells the policy of a kind.
    """
    found: dict[tuple[str, ...], Finding] = {}
    for record in records:
        finding = Finding.of(record, pool)
        concerned = [tested for tested in tests if tested.concerns(finding)] or list(tests)
        struck = [tested.test for tested in concerned if not allowed(finding, tested.allows)]
        if struck or not tests:
            known = found.setdefault(finding.identity, finding)
            known.tests += [test for test in struck if test not in known.tests]
    return [as_data(finding, policy) for finding in found.values() if (policy := policy_of(finding.kind)) != "off"]
