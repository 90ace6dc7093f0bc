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
    from pytest_celerypool.ledger import TaskEntry
    from pytest_celerypool.trace import Span


#: Seconds: where somebody who is known has waited longer than that for a processor, others may have too.
_ALONE_S = 0.001


#: How many moments of one slot are remembered.
_LONGEST_HISTORY = 2000

#: By thread of a slot: moments at which it was known for how long it had waited for a processor, and how long; sorted.
#: And by such a thread and ``"stored"``: for how long it had stored results.
Histories = dict[object, list[tuple[float, float]]]


class WaitClocks(Protocol):
    """How long those whom a message passes have waited for a processor so far, in seconds.

    :ivar complete: whether they are all known: a broker's server may run on another machine.
    :ivar apart: whether the slots are other threads than the one that receives messages.
    :ivar histories: what is known of the slots' threads, whatever test it is from.
    """

    complete: bool
    apart: bool
    histories: Histories

    def read(self) -> Waited | None:
        """Return what they have waited; ``None`` where the system does not tell."""


class Waited(NamedTuple):
    """Seconds that threads have waited for a processor so far.

    :ivar others: of the test and the broker's server.
    :ivar main: of the thread that receives messages in a worker.
    """

    others: float
    main: float


class Passage(NamedTuple):
    """How far a message has come.

    :ivar clocks: who knows what those whom it passes have waited.
    :ivar published: what they had waited when it was published.
    :ivar since: what they had waited at its last step.
    :ivar passed: seconds that were waited before that step.
    """

    clocks: WaitClocks
    published: Waited
    since: Waited
    passed: float = 0.0


class QueueWaits:
    """Adds up for how long at most a task's way to its slot waited for a processor.

    Everybody is asked when the test process hears of a step, which is a little later than the step: what they waited
    for other things meanwhile counts too.

    :param clocks: those who are asked; ``None``: nobody can be.
    """

    def __init__(self, clocks: WaitClocks | None) -> None:
        self._clocks = clocks
        #: By execution that has begun: what its slot's thread had waited then.
        self._begun: dict[tuple[str, int], float] = {}

    def published(self, entry: TaskEntry) -> None:
        """A message is about to be published."""
        now = None if self._clocks is None else self._clocks.read()
        entry.passage = None if now is None or self._clocks is None else Passage(self._clocks, now, now)

    def received(self, entry: TaskEntry) -> None:
        """The worker has a message: from now on only its own threads count."""
        now, before = None if self._clocks is None else self._clocks.read(), entry.passage
        if now is None or before is None or self._clocks is None:
            return
        passed = before.passed + now.others - before.since.others
        if before.clocks is self._clocks:  # the worker of a cluster that has it need not have published it
            passed += now.main - before.since.main if self._clocks.apart else 0.0
            entry.passage = before._replace(since=now, passed=passed)
        else:
            entry.passage = Passage(self._clocks, now, now, passed)

    def began(self, entry: TaskEntry, span: Span, delayed: float | None) -> float | None:
        """A slot has begun a task; returns the seconds, ``None`` where they are not known.

        :param delayed: seconds that the slot's thread has waited, ever.
        """
        clocks, before = self._clocks, entry.passage
        entry.passage = None
        now = None if clocks is None else clocks.read()
        if clocks is None or span.started is None or delayed is None:
            return None
        self._begun[span.id, span.retries] = delayed
        thread = _thread_of(span)
        known = _last_before(clocks.histories.get(thread, ()), span.published)
        if clocks.apart:
            self._note(thread, span.started, delayed)
        if now is None or before is None or span.published is None or before.clocks is not clocks:
            return None
        waited, queued = before.passed, span.started - span.published
        if clocks.apart:
            waited += now.main - before.since.main + min(delayed - known, queued)
        else:
            waited += delayed - before.published.main
        storing = clocks.histories.get((thread, "stored"), ())
        waited += _last_before(storing, span.started) - _last_before(storing, span.published)
        if waited > _ALONE_S and not clocks.complete:
            return queued
        return min(max(waited, 0.0), queued)

    def left_slot(self, span: Span) -> None:
        """A task has left its slot."""
        delayed = self._begun.pop((span.id, span.retries), None)
        if self._clocks is None or delayed is None or span.ended is None or span.hold is not None:
            return  # a hub goes on while a greenlet stores its result
        thread = _thread_of(span)
        if self._clocks.apart and span.slot_waited is not None:
            self._note(thread, span.ended, delayed + span.slot_waited)
        # The server that stores a result may wait for a processor too, and the slot with it.
        stored = _last_before(self._clocks.histories.get((thread, "stored"), ()), span.ended)
        self._note((thread, "stored"), span.ended, stored + (span.stored or 0.0))

    def _note(self, key: object, moment: float, waited: float) -> None:
        if self._clocks is not None:
            history = self._clocks.histories.setdefault(key, [])
            insort(history, (moment, waited))
            if len(history) > _LONGEST_HISTORY:
                del history[: _LONGEST_HISTORY // 2]


def _thread_of(span: Span) -> object:
    """Return what stands for the thread of a slot."""
    return span.pid, span.slot


def _last_before(history: Sequence[tuple[float, float]], moment: float | None) -> float:
    """Return what was known last at that moment; 0 if nothing was: it may all have been waited since."""
    place = 0 if moment is None else bisect_right(history, (moment, math.inf))
    return history[place - 1][1] if place else 0.0
