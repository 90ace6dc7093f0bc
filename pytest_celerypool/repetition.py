"""Send tasks again in a pass of their own: to provoke what shows when tasks overlap, to confirm a verdict, to measure.

What such a pass runs counts in no expectation, in no budget and not among the handle's spans, and its results are
nobody's. What the agent found meanwhile is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from pytest_celerypool.agent.publishing import Publication
from pytest_celerypool.errors import WorkerError
from pytest_celerypool.handle import TaskTimeoutError
from pytest_celerypool.ledger import Ledger
from pytest_celerypool.worker import WorkerHandle


@contextmanager
def apart(handle: WorkerHandle, *, logged: bool = False) -> Iterator[Ledger]:
    """Give a handle a ledger of the pass's own, until the end of the ``with`` block.

    What was found, and whether the worker can serve another test, is noted in the handle's own.

    :param logged: whether the test's log goes on meanwhile.
    """
    own, sent = handle.ledger, list(handle.sent)
    if not logged:
        handle.end_log()
    handle.ledger = handle.new_ledger(own.test)
    try:
        yield handle.ledger
    finally:
        repeated, handle.ledger = handle.ledger, own
        handle.sent[:] = sent
        handle.repeated.update(repeated.tasks)
        handle.soiled = handle.soiled or bool(repeated.outstanding()) or repeated.lost_slots
        for record in repeated.foreign:
            own.feed(record)
        for finding in repeated.findings:
            own.find(finding)


def send(handle: WorkerHandle, publication: Publication, countdown: float | None = None) -> str:
    """Publish a task as the test did, without what was to follow it; returns its new id.

    :param countdown: seconds before which it may not start; of an ETA in the test nothing is known here.
    """
    task = handle.app.tasks.get(publication.task)
    hard, soft = publication.time_limits
    place: dict[str, Any] = {"queue": publication.queue}
    if publication.queue is None:
        place = {"exchange": publication.exchange, "routing_key": publication.routing_key}
    args, kwargs = publication.arguments
    result = handle.app.send_task(
        publication.task,
        args=args,
        kwargs=kwargs,
        time_limit=hard,
        soft_time_limit=soft,
        countdown=countdown,
        ignore_result=getattr(task, "ignore_result", None),
        serializer=getattr(task, "serializer", None),
        **place,
    )
    return str(result.id)


def countdown_of(publication: Publication) -> float | None:
    """Return the seconds from the publication of a task to its ETA, ``None`` if it had none."""
    if publication.eta is None:
        return None
    eta = datetime.fromisoformat(publication.eta)
    published = time.time() - (time.monotonic() - publication.published)
    return max(0.0, eta.timestamp() - published)


def wait(handle: WorkerHandle, timeout: float | None = None) -> str | None:
    """Wait until all of a pass has ended; returns what did not, ``None`` if all has.

    :param timeout: seconds; ``--celery-timeout`` if not given.
    """
    try:
        handle.drain(timeout)
    except (TaskTimeoutError, WorkerError) as exc:
        return f"not all repetitions ended: {str(exc).partition('Its log:')[0].strip()}"
    return None
