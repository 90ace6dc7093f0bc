"""Hazards that only the test process can see, from the spans of a test: findings without a detector in the worker."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_celerypool.pools import Pool
from pytest_celerypool.trace import Finding, Kind, Ledger

#: The kinds that are found here or at the end of the session.
KINDS: Sequence[Kind] = (
    Kind("stress-differs", "warn", "a repetition of --celery-stress ended otherwise than the task had"),
    Kind("pools-disagree", "warn", "a test ended differently under two pools"),
)


def find(ledger: Ledger, pool: Pool) -> list[Finding]:
    """Return what the spans of a test show.

    :param ledger: what happened to the tasks of the test.
    :param pool: the pool that they ran under.
    """
    return []
