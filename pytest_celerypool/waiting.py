"""For how long a task's way to its slot waited for a processor: what other processes of the machine cost a queue.

Linux tells of each thread how long it has waited for a processor so far. A message passes several: the test's thread,
the broker's, the worker's main one and that of its slot.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from pytest_celerypool.trace import Span, TaskEntry


#: Seconds: where somebody who is known has waited longer than that for a processor, others may have too.
_ALONE_S = 0.001


class WaitClocks(Protocol):
    """How long those whom a message passes have waited for a processor so far, in seconds.

    :ivar complete: whether they are all known: a broker's server may run on another machine.
    """

    complete: bool

    def read(self) -> Waited | None:
        """Return what they have waited; ``None`` where the system does not tell."""


class Waited(NamedTuple):
    """Seconds that threads have waited for a processor so far.

    :ivar others: of the test and the broker's servers.
    :ivar main: of the thread that receives messages in a worker; 0 if it runs the tasks too.
    """

    others: float
    main: float


class Passage(NamedTuple):
    """How far a message has come.

    :ivar since: what those whom it passes had waited at its last step.
    :ivar clocks: which clocks said so.
    :ivar passed: seconds that were waited before that step.
    """

    since: Waited
    clocks: WaitClocks
    passed: float = 0.0


class QueueWaits:
    """Adds up for how long at most a task's way to its slot waited for a processor.

    Everybody is asked when the test process hears of a step, which is a little later than the step: what they waited
    for other things meanwhile counts too.

    :param clocks: those who are asked; ``None``: nobody can be.
    """

    def __init__(self, clocks: WaitClocks | None) -> None:
        self._clocks = clocks
        #: By thread of a slot: the moments at which it was known what it had waited, and how much that was; sorted.
        self._slots: dict[object, list[tuple[float, float]]] = {}
        #: By execution that has begun: what its slot's thread had waited then.
        self._begun: dict[tuple[str, int], float] = {}

    def published(self, entry: TaskEntry) -> None:
        """A message is about to be published."""
        now = None if self._clocks is None else self._clocks.read()
        entry.passage = None if now is None or self._clocks is None else Passage(now, self._clocks)

    def received(self, entry: TaskEntry) -> None:
        """The worker has a message: from now on only its own threads count."""
        now, before = None if self._clocks is None else self._clocks.read(), entry.passage
        if now is None or before is None or self._clocks is None:
            return
        passed = before.passed + now.others - before.since.others
        if before.clocks is self._clocks:  # the worker of a cluster that has it need not have published it
            passed += now.main - before.since.main
        entry.passage = Passage(now, self._clocks, passed)

    def began(self, entry: TaskEntry, span: Span, delayed: float | None) -> float | None:
        """A slot has begun a task; returns the seconds, ``None`` where they are not known.

        :param delayed: seconds that the slot's thread has waited, ever.
        """
        now, before = None if self._clocks is None else self._clocks.read(), entry.passage
        entry.passage = None
        if span.started is None or delayed is None:
            return None
        history = self._slots.setdefault(_thread_of(span), [])
        base = _last_before(history, span.published)
        insort(history, (span.started, delayed))
        self._begun[span.id, span.retries] = delayed
        if now is None or before is None or span.published is None or before.clocks is not self._clocks:
            return None
        queued = span.started - span.published
        waited = before.passed + now.main - before.since.main + min(delayed - base, queued)
        if waited > _ALONE_S and not before.clocks.complete:
            return queued
        return min(waited, queued)

    def left_slot(self, span: Span) -> None:
        """A task has left its slot."""
        delayed = self._begun.pop((span.id, span.retries), None)
        if delayed is not None and span.ended is not None and span.slot_waited is not None:
            insort(self._slots[_thread_of(span)], (span.ended, delayed + span.slot_waited))


def _thread_of(span: Span) -> object:
    """Return what stands for the thread of a slot: all greenlets of a process share one."""
    return span.pid if (span.slot or "").startswith("greenlet ") else (span.pid, span.slot)


def _last_before(history: Sequence[tuple[float, float]], moment: float | None) -> float:
    """Return what was known last at that moment; 0 if nothing was: it may all have been waited since."""
    place = 0 if moment is None else bisect_right(history, (moment, math.inf))
    return history[place - 1][1] if place else 0.0
