"""Send the tasks of a test again, many at once and in a shuffled order, to provoke what shows only when tasks overlap.

It is a pass of its own, after the test: its spans count in no expectation, in no budget and not among the handle's, its
results are nobody's; only what the agent found meanwhile is kept.
"""

from __future__ import annotations

import random

from pytest_celerypool.ledger import Ledger, TaskEntry
from pytest_celerypool.repetition import apart, send, wait
from pytest_celerypool.trace import Finding
from pytest_celerypool.worker import WorkerHandle


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
    with apart(handle, logged=True) as repeated:
        originals = {send(handle, publication): publication.id for publication in copies}
        problem = wait(handle)
    handle.stressed = repeated.spans
    for finding in _differing(originals, own, repeated):
        own.find(finding)
    return None if problem is None else f"--celery-stress: {problem}"


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
