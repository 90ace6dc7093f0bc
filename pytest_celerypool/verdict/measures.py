"""What the executions of tasks took, each measure as the range in which it lies.

Other processes of the machine make a task take longer than it does. Linux tells how long a thread waited for a
processor (second figure of ``/proc/PID/task/TID/schedstat``), and what the task itself waited is taken out. For what
others waited (the hub while the task slept, the server that stored its result, who handed on its message) nobody can
tell whether the task waited for them: the measure then lies between a lowest value, without all of that, and a highest,
with it. On an idle machine the two are the same but for fractions of a millisecond. So does what Python took to collect
garbage by itself, which is chance too: it comes when there is enough, that of others included, and strikes any task.

Times are seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pytest_celerypool.trace import Span


class Range(NamedTuple):
    """A measure lies between `low` and `high`, both included; `noise` is by how much either may be wrong."""

    low: float
    high: float
    noise: float = 0.0

    @property
    def best(self) -> float:
        """The value to show and to reckon with: without what others may have cost, if that is more than noise."""
        return self.high if self.high - self.low <= self.noise else self.low

    @property
    def told(self) -> bool:
        """Whether it is known to within its noise."""
        return self.high - self.low <= self.noise

    @property
    def settled(self) -> Range:
        """The same without its noise where it is told: what the lowest of several measurements of one thing took."""
        return Range(self.best, self.best) if self.told else self

    def exceeds(self, limit: float) -> bool | None:
        """Whether the measure is above `limit`; ``None`` if it cannot be told."""
        if self.low - self.noise > limit:
            return True
        return False if self.high + self.noise <= limit else None

    def falls_short(self, limit: float) -> bool | None:
        """Whether the measure is below `limit`; ``None`` if it cannot be told."""
        if self.high + self.noise < limit:
            return True
        return False if self.low - self.noise >= limit else None


Figure = Callable[[Span], Range | None]

#: Seconds by which a duration in a slot is wrong: what the agent and Celery do at either end of it.
_RESOLUTION_S = 0.0005
#: The same where the slot is a greenlet: the system is asked of nothing shorter.
_GREEN_RESOLUTION_S = 0.001
#: Seconds by which a way through several processes differs from one message to the next.
_TRANSIT_S = 0.002
#: The share by which the processor time of one and the same computation differs from one execution to the next, as the
#: processor's clock and caches have it. Measured here: 16.2 to 18.8 ms in 30 executions (tests/benchmarks).
_SHARE_OF_CPU = 0.1


def _resolution(span: Span) -> float:
    return _RESOLUTION_S if span.hold is None else _GREEN_RESOLUTION_S


def _noise(span: Span, seconds: float) -> float:
    return _resolution(span) + _SHARE_OF_CPU * min(span.cpu or 0.0, seconds)


def runtime_range(span: Span) -> Range | None:
    """Return what an execution took in its slot; None if it did not begin or end."""
    if span.runtime is None:
        return None
    high = max(0.0, span.runtime - (span.waited or 0.0))
    beside = max(0.0, (span.slot_waited or 0.0) - (span.waited or 0.0)) + (span.stored or 0.0)
    # What it computed, it took.
    low = min(high, max(high - beside - (span.collecting or 0.0), (span.cpu or 0.0) - (span.collected or 0.0)))
    return Range(low, high, _noise(span, high))


def queued_range(span: Span) -> Range | None:
    """Return the time from publication to start; None if either is not known."""
    if span.queued is None:
        return None
    return Range(max(0.0, span.queued - (span.queue_waited or 0.0)), span.queued, _TRANSIT_S)


def total_range(span: Span) -> Range | None:
    """Return the time from publication to end; None if either is not known."""
    queued, ran = queued_range(span), runtime_range(span)
    if queued is None or ran is None:
        # Ended before a slot had it.
        return None if span.total is None else Range(span.total, span.total, _TRANSIT_S)
    return Range(queued.low + ran.low, queued.high + ran.high, queued.noise + ran.noise)


def _cpu(span: Span) -> Range | None:
    if span.cpu is None:
        return None
    return Range(max(0.0, span.cpu - (span.collected or 0.0)), span.cpu, _noise(span, span.cpu))


def _hold(span: Span) -> Range | None:
    if span.hold is None:
        return None
    return Range(max(0.0, span.hold - (span.swept or 0.0)), span.hold, _noise(span, span.hold))


#: The measures that each execution has of its own.
PER_SPAN: Mapping[str, Figure] = {
    "runtime": runtime_range,
    "queued": queued_range,
    "total": total_range,
    "cpu": _cpu,
    "hold": _hold,
}


def growth(span: Span) -> Range | None:
    """Return by how much the process of an execution grew while it ran."""
    if span.memory_before is None or span.memory_after is None:
        return None
    grown = float(span.memory_after - span.memory_before)
    return Range(grown, grown)


def best(figure: Figure) -> Callable[[Span], float | None]:
    """Return a function that gives of an execution the one value that stands for `figure`."""

    def value(span: Span) -> float | None:
        found = figure(span)
        return None if found is None else found.best

    return value


def highest(figure: Figure) -> Callable[[Span], float | None]:
    """Return a function that gives of an execution the most that `figure` may have been."""

    def value(span: Span) -> float | None:
        found = figure(span)
        return None if found is None else found.high

    return value


runtime = best(runtime_range)


# -- of all executions together


def makespan_range(spans: Iterable[Span]) -> Range | None:
    """Return the time from the first publication to the last end; None if either is not known."""
    spans = list(spans)
    seconds = makespan(spans)
    if seconds is None:
        return None
    late = max(_late(spans).values(), default=0.0)
    low = max(0.0, min(seconds, _uninterrupted(spans)) - (late if late > _TRANSIT_S else 0.0))
    return Range(low, seconds, _TRANSIT_S + _SHARE_OF_CPU * _busiest(spans))


def makespan(spans: Iterable[Span]) -> float | None:
    """Return the seconds from the first publication to the last end as the clock had them."""
    spans = list(spans)
    published = [span.published for span in spans if span.published is not None]
    ended = [span.ended for span in spans if span.ended is not None]
    return max(ended) - min(published) if published and ended else None


def _uninterrupted(spans: Iterable[Span]) -> float:
    """Return the least that the makespan would have been if nobody had waited for a processor.

    From its end backwards it is covered by executions: the one that ended last, that which ended last of those
    published before it was, and so on. What each of them lost counts; between two, where nothing was under way, the
    test did what it did, and may have waited for all of that, if anybody did.
    """
    known = [
        (span.published, span.ended, span) for span in spans if span.published is not None and span.ended is not None
    ]
    known.sort(key=lambda each: each[1], reverse=True)
    waited = any(_lost(span) > _TRANSIT_S for *_, span in known)
    moment, seconds = known[0][1], 0.0
    for published, ended, span in known:
        if published >= moment:
            continue
        if ended < moment and not waited:
            seconds += moment - ended
        piece = min(ended, moment) - published
        seconds += piece - min(piece, _lost(span))
        moment = published
    return seconds


def _late(spans: Iterable[Span]) -> dict[int, float]:
    """Return by the identity of an execution by how many seconds sooner it might have been published.

    That is what the test and the server waited for a processor since the first of them was.
    """
    known = {id(span): span.publisher_waited for span in spans if span.publisher_waited is not None}
    first = min(known.values(), default=0.0)
    return {each: waited - first for each, waited in known.items()}


def _lost(span: Span) -> float:
    """Return the most that an execution lost from its publication to its end."""
    found = total_range(span)
    return 0.0 if found is None or span.total is None else max(0.0, span.total - found.low)


def _busiest(spans: Iterable[Span]) -> float:
    """Return the processor time of the slot that computed most."""
    slots: dict[object, float] = {}
    for span in spans:
        place = span.pid if span.hold is not None else (span.pid, span.slot)
        slots[place] = slots.get(place, 0.0) + (span.cpu or 0.0)
    return max(slots.values(), default=0.0)


def throughput_range(spans: Sequence[Span]) -> Range | None:
    """Return the executions that ended in a slot, divided by the makespan, a second."""
    found = makespan_range(spans)
    ended = sum(span.runtime is not None for span in spans)
    if found is None or not ended or found.high <= 0:
        return None
    low, high = ended / found.high, ended / max(found.low, found.high / 1000)
    return Range(low, high, low * min(1.0, found.noise / found.high))


def throughput(spans: Sequence[Span]) -> float | None:
    """Return the executions that ended in a slot, divided by the makespan as the clock had it, a second."""
    seconds = makespan(spans)
    ended = sum(span.runtime is not None for span in spans)
    return ended / seconds if seconds and ended else None


def overlap_range(spans: Iterable[Span]) -> Range | None:
    """Return how many executions were in their slots at once when they were most; None if none began.

    Who was kept from starting by other processes might have overlapped with those that ended meanwhile; not where they
    share a thread: what keeps that keeps both. So might those that were published late.
    """
    spans = list(spans)
    low = overlap(spans)
    if low is None:
        return None
    earliest = _earliest(spans)
    return Range(low, max(low, overlap(spans, lambda span: earliest[id(span)]) or 0.0))


def _earliest(spans: Sequence[Span]) -> dict[int, float]:
    """Return by the identity of an execution by how many seconds sooner it might have started."""
    late = _late(spans)
    free: dict[object, float] = {}
    found: dict[int, float] = {}
    for span in sorted(spans, key=lambda span: span.started or 0.0):
        slot = (span.pid, span.slot)
        since = (span.started or 0.0) - free.get(slot, 0.0)
        queued = 0.0 if span.hold is not None else span.queue_waited or 0.0
        found[id(span)] = max(0.0, min(queued + late.get(id(span), 0.0), since))
        free[slot] = span.ended or 0.0
    return found


def overlap(spans: Iterable[Span], earlier: Callable[[Span], float] = lambda span: 0.0) -> float | None:
    """Return how many executions were in their slots at once when they were most; None if none began.

    One that ends at the very moment at which another starts does not overlap it. One that has not ended is in
    its slot still.

    :param earlier: by how many seconds an execution is taken to have started before it did.
    """
    changes = []
    for span in spans:
        if span.started is not None:
            changes.append((span.started - earlier(span), 1))
            if span.ended is not None:
                changes.append((span.ended, -1))
    if not changes:
        return None
    running = peak = 0
    for _, change in sorted(changes):  # at the same time, ends come first
        running += change
        peak = max(peak, running)
    return float(max(peak, 1))


#: The measures of all executions together.
TOGETHER: Mapping[str, Callable[[Sequence[Span]], Range | None]] = {
    "makespan": makespan_range,
    "throughput": throughput_range,
    "overlap": overlap_range,
}
