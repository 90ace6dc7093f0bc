"""Every bug of the collection is found: its kind, under exactly the pools that have it, with the line that did it.

By default one case of each kind runs, under a pool that has the bug; with ``CELERYPOOL_CASES=all`` in the environment
all of them do, under all pools.
"""

import dataclasses
import os
from pathlib import Path

import pytest
from cases import cases_in, needs, run_case

CASES = cases_in(Path(__file__).parent)


def under_few_pools(case):
    """The case under the first pool of each finding."""
    wanted = {finding["pools"][0] for finding in case.findings}
    return dataclasses.replace(case, pools=tuple(pool for pool in case.pools if pool in wanted))


def chosen():
    if os.environ.get("CELERYPOOL_CASES") == "all":
        return CASES
    first = {}
    for case in CASES:
        for finding in case.findings:
            first.setdefault(finding["kind"], case)
    return [under_few_pools(case) for case in {case.name: case for case in first.values()}.values()]


@pytest.mark.parametrize("case", chosen(), ids=lambda case: case.name)
def test_the_bug_is_found(case, project):
    needs(case)
    ran = run_case(case, project)
    for expected in case.findings:
        assert ran.pools(expected["kind"]) == set(expected["pools"]) & set(case.pools), (
            f"{expected['kind']}\n{ran.text()}\n{ran.run.output}"
        )
        if "line" in expected:
            evidence = [each["evidence"] for each in ran.findings if each["kind"] == expected["kind"]]
            assert all(expected["line"] in text for text in evidence), ran.text()
    others = {each["kind"] for each in ran.findings} - {each["kind"] for each in case.findings} - set(case.also)
    assert not others, ran.text()
    for pool in set(case.author) & set(case.pools):
        assert not [each for each in ran.findings if each["pool"] == pool and each["policy"] == "fail"], ran.text()
        assert {outcome for test, outcome in ran.run.outcomes().items() if pool in test} == {"passed"}, ran.run.output


def test_every_case_says_where_it_was_reported_and_what_must_be_found():
    assert not [case.name for case in CASES if not case.source or not case.findings]
