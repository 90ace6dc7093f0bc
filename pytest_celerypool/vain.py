"""Which results never come, although worker and broker are well: because of what the task did, or of when it is due."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pytest_celerypool.ledger import TaskEntry

#: The ends of which Celery stores nothing; since 5.7 it stores ``Reject(requeue=False)`` as failed.
_UNSTORED = frozenset({"IGNORED", "REJECTED"})

#: Seconds after the last step of a task within which something may still come of it: a main process stores what its
#: slot reported, a broker delivers again, the worker's clock is not that of a test which travels in time.
GRACE_S = 1.0


def is_refused(entry: TaskEntry) -> bool:
    """Whether the worker gave a task to no slot, because of what its message holds."""
    return entry.state == "REJECTED" and entry.spans[-1].started is None


def stores_nothing(entry: TaskEntry) -> bool:
    """Whether a task has ended, and Celery itself stores no result of such an end."""
    if entry.state not in _UNSTORED:
        return False
    arguments = (entry.spans[-1].error or {}).get("args", ())
    requeued = entry.state == "REJECTED" and list(arguments[1:2]) == [True]
    return not requeued


def is_replaced(entry: TaskEntry) -> bool:
    """Whether a task has put others in its place, of which the last goes on under its id."""
    # The text of ``Task.replace()``. That of a group or a chain is published only when the others have ended.
    return entry.state == "IGNORED" and (entry.spans[-1].error or {}).get("args") == ["Replaced by new task"]


def is_late(entry: TaskEntry, seconds: float) -> bool:
    """Whether a task waits for an ETA that comes later than in `seconds`."""
    if entry.eta is None or entry.open_spans or not entry.outstanding:
        return False
    try:
        eta = datetime.fromisoformat(entry.eta)
    except ValueError:
        return False
    now = datetime.now(UTC) if eta.tzinfo else datetime.now()
    return (eta - now).total_seconds() > seconds


def is_at_rest(entry: TaskEntry) -> bool:
    """Whether a task's last step lies so far back that none follows of itself."""
    steps = [
        *(when for _, when in entry.publications[-1:]),
        *entry.receptions[-1:],
        *(span.ended for span in entry.spans if span.ended is not None),
    ]
    return bool(steps) and time.monotonic() - max(steps) > GRACE_S
