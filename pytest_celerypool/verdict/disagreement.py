"""Tell that a test ended differently under two pools: a finding of its own where nobody demands agreement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_celerypool.trace import Finding

KIND = "pools-disagree"


@dataclass(frozen=True)
class Outcome:
    """How a test ended under one pool.

    :ivar column: the pool, with the slots if these are an axis too.
    :ivar nodeid: the test there.
    :ivar passed: whether it passed.
    :ivar counts: whether it is to be compared: not if it failed for a finding, which says more.
    :ivar why: the line that says how it failed.
    """

    column: str
    nodeid: str
    passed: bool
    counts: bool = True
    why: str = ""


def compare(test: str, outcomes: Iterable[Outcome]) -> list[Finding]:
    """Return a finding for each pool under which a test failed, if it passed under another.

    :param test: the test without its pool.
    :param outcomes: one for each pool; skipped and expected failures are none.
    """
    sides = list(outcomes)
    passed = [side for side in sides if side.passed]
    failed = [side for side in sides if not side.passed and side.counts]
    if not passed or not failed:
        return []
    under = {True: ", ".join(side.column for side in passed), False: ", ".join(side.column for side in failed)}
    return [
        Finding(
            kind=KIND,
            task="?",
            pool=side.column,
            message=f"{test} passed under {under[True]} and failed under {under[False]}",
            evidence="\n".join(f"{each.column}: {each.why}" for each in failed),
            remedy="the failures say what differs; celery_expect(agree=True) compares the tasks themselves",
            tests=[side.nodeid],
            key=test,
        )
        for side in failed
    ]
