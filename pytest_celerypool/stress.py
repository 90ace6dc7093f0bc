"""Send the tasks of a test again, many at once and in a shuffled order, to provoke what shows only when tasks overlap.

It is a pass of its own, after the test: its spans count in no expectation, in no budget and not among the handle's, its
results are nobody's; only what the agent found meanwhile is kept.
"""

from __future__ import annotations

import random
from typing import Any

from pytest_celerypool.agent.publishing import Publication
from pytest_celerypool.errors import WorkerError
from pytest_celerypool.trace import Finding, Ledger, TaskEntry
from pytest_celerypool.worker import TaskTimeoutError, WorkerHandle


def repeat(handle: WorkerHandle, times: int, seed: str) -> str | None:
    """Send every task that the test has published `times` times, all at once, and wait for their ends.

    What a task published in its turn is sent by its repetitions, as it was by itself; a chain or chord goes no further
    than the task that the test published.

    :param handle: all of whose tasks have ended; what was found is added to its ledger.
    :param seed: decides the order.
    :returns: what to note if not all of them ended, ``None`` if they did.
    """
    sent = [publication for publication in handle.sent if handle.ledger.tasks[publication.id].state is not None]
    if not sent or handle.launched.death() is not None:
        return None
    copies = sent * times
    random.Random(seed).shuffle(copies)
    own = handle.ledger
    handle.ledger = handle.new_ledger(own.test)
    try:
        originals = {_send(handle, publication): publication.id for publication in copies}
        problem = _wait(handle)
    finally:
        repeated, handle.ledger = handle.ledger, own
    handle.repeated.update(repeated.tasks)
    handle.stressed = repeated.spans
    handle.soiled = handle.soiled or bool(repeated.outstanding()) or repeated.lost_slots
    for record in repeated.foreign:
        own.feed(record)
    for finding in repeated.findings:
        own.find(finding)
    for finding in _differing(originals, own, repeated):
        own.find(finding)
    return problem


def _send(handle: WorkerHandle, publication: Publication) -> str:
    """Publish a task as the test did, without what was to follow it; returns its new id."""
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
        ignore_result=getattr(task, "ignore_result", None),
        serializer=getattr(task, "serializer", None),
        **place,
    )
    return str(result.id)


def _wait(handle: WorkerHandle) -> str | None:
    try:
        handle.drain()
    except (TaskTimeoutError, WorkerError) as exc:
        return f"--celery-stress: not all repetitions ended: {str(exc).partition('Its log:')[0].strip()}"
    return None


def _differing(originals: dict[str, str], own: Ledger, repeated: Ledger) -> list[Finding]:
    """Return a finding for each task whose repetitions ended otherwise than it did when it was alone."""
    found: dict[str, list[TaskEntry]] = {}
    for copy, original in originals.items():
        entry = repeated.tasks.get(copy)
        if entry is not None and entry.state not in (None, own.tasks[original].state):
            found.setdefault(entry.task, []).append(entry)
    return [_difference(name, entries, own) for name, entries in found.items()]


def _difference(name: str, entries: list[TaskEntry], own: Ledger) -> Finding:
    last = entries[0].spans[-1]
    before = next(entry.state for entry in own.tasks.values() if entry.task == name)
    return Finding(
        kind="stress-differs",
        task=name,
        pool=own.pool,
        message=f"ended as {before} when the test sent it, and {len(entries)} of its repetitions as {last.state}",
        evidence="\n".join(
            f"{entry.spans[-1].task}[{entry.id}] in {entry.spans[-1].slot}: {entry.spans[-1].state}, "
            f"{entry.spans[-1].exception}"
            for entry in entries[:5]
        ),
        remedy="find what the repetitions share; a task that cannot run twice with the same arguments may be allowed",
        ids=[entry.id for entry in entries],
    )
