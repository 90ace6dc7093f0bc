"""Judge ``celery_budget``: what the tasks of a test took, against its limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pytest_celerypool.markers import DURATIONS, LOWER_BOUNDS, BudgetSpec, Limit
from pytest_celerypool.trace import Span, TaskEntry
from pytest_celerypool.units import format_bytes, format_seconds
from pytest_celerypool.verdict import Failure
from pytest_celerypool.verdict.matching import applies, names, no_match, select, short_id, span_label, spans_of

#: How many executions the table of a failure shows.
_WORST = 5
#: How many tasks that have not ended are named.
_MOST_NAMED = 5
#: Where a lower bound is missed altogether, the share would be infinite, which no table and no JSON can show.
_LARGEST_SHARE = 99.99


@dataclass(frozen=True)
class Nearest:
    """The limit of a budget that was nearest to being broken, or was broken most."""

    measure: str
    #: What was measured, and the limit, as messages show them.
    value: str
    limit: str
    #: The part of the limit that was used: 1.0 is all of it, above that the budget is broken.
    share: float


@dataclass(frozen=True)
class BudgetOutcome:
    """What became of one ``celery_budget``."""

    failures: tuple[Failure, ...] = ()
    #: None where nothing was measured.
    nearest: Nearest | None = None
    #: Limits that could not be judged, and why; each one line.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Taken:
    """What was measured for one limit; `span` is the one execution it comes from, if there is one."""

    value: float
    span: Span | None = None
    #: Of how many executions it is a percentile.
    count: int = 1


def runtime(span: Span) -> float | None:
    """Return the seconds that an execution took in its slot, less those in which the slot waited for a processor.

    What other processes of the machine do is no fault of the task. None if it did not begin or end.
    """
    if span.runtime is None:
        return None
    return max(0.0, span.runtime - (span.waited or 0.0))


def _growth(span: Span) -> float | None:
    if span.memory_before is None or span.memory_after is None:
        return None
    return float(span.memory_after - span.memory_before)


_Figure = Callable[[Span], float | None]

#: The measures that each execution has of its own.
_PER_SPAN: Mapping[str, _Figure] = {
    "runtime": runtime,
    "queued": lambda span: span.queued,
    "total": lambda span: span.total,
    "cpu": lambda span: span.cpu,
    "hold": lambda span: span.hold,
}

#: Which executions to show first where a measure is one of all executions together.
_SUSPECTS: Mapping[str, _Figure] = {
    **_PER_SPAN,
    "memory": _growth,
    "throughput": runtime,
    "overlap": lambda span: span.queued,
    "makespan": lambda span: span.total,
}


def judge(
    spec: BudgetSpec, tasks: Sequence[TaskEntry], pool: str, *, green: bool, memory_growth: int | None
) -> BudgetOutcome:
    """Judge one ``celery_budget`` of a test.

    :param spec: its limits; one that does not speak of `pool` limits nothing.
    :param tasks: all tasks of the test.
    :param pool: the name of the pool.
    :param green: whether its slots are greenlets: ``hold`` is judged there alone.
    :param memory_growth: bytes by which the worker's processes grew over the test, None if that is not known.
    """
    if not applies(spec.pools, pool):
        return BudgetOutcome()
    selected = select(spec.tasks, tasks)
    if not selected:
        return BudgetOutcome((no_match("celery_budget", spec.tasks, tasks, pool),))
    spans = spans_of(spec.tasks, selected)
    failures, notes, found = _without_figures(selected, pool), [], []
    if not spans:
        return BudgetOutcome(tuple(failures))
    for measure, limit in spec.limits.items():
        if measure == "hold" and not green:
            continue
        taken = _take(measure, spans, spec.percentile, memory_growth)
        if taken is None:
            notes.append(f"{measure} was not judged under {pool}: {_unknown(measure, spans)}")
            continue
        found.append(Nearest(measure, _show(measure, taken.value, limit), limit.text, _share(measure, taken, limit)))
        if _broken(measure, taken.value, limit):
            failures.append(_failure(measure, taken, found[-1], spans, spec.percentile, pool))
    nearest = max(found, key=lambda each: each.share, default=None)
    return BudgetOutcome(tuple(failures), nearest, tuple(notes))


def _without_figures(selected: Iterable[TaskEntry], pool: str) -> list[Failure]:
    """Return failures for the tasks that took nothing that could be measured: they would pass every limit."""
    reasons: dict[str, list[str]] = {}
    for entry in selected:
        if entry.unknown or entry.outstanding or not entry.spans:
            reason = "never ran, since the worker does not know it" if entry.unknown else "not ended"
            reasons.setdefault(reason, []).append(f"{entry.task}[{short_id(entry.id)}]")
    return [
        Failure(f"{_listed(labels)} under {pool}: {reason}; celery_budget cannot judge what it takes")
        for reason, labels in reasons.items()
    ]


def _listed(labels: Sequence[str]) -> str:
    more = [f"and {len(labels) - _MOST_NAMED} more"] if len(labels) > _MOST_NAMED else []
    return ", ".join([*labels[:_MOST_NAMED], *more])


# -- measuring


def _take(measure: str, spans: Sequence[Span], percentile: float, memory_growth: int | None) -> _Taken | None:
    """Return what is measured, in the unit of the measure's limit; None where there is nothing to measure."""
    if measure in _PER_SPAN:
        return _percentile(_PER_SPAN[measure], spans, percentile)
    if measure == "memory":
        return None if memory_growth is None else _Taken(float(memory_growth))
    value = {"makespan": makespan, "throughput": throughput, "overlap": overlap}[measure](spans)
    return None if value is None else _Taken(value)


def _percentile(figure: _Figure, spans: Iterable[Span], percentile: float) -> _Taken | None:
    """Return the figure at the nearest rank: the smallest that at least `percentile` per cent do not exceed."""
    figures = [(value, span) for span in spans if (value := figure(span)) is not None]
    if not figures:
        return None
    figures.sort(key=lambda pair: pair[0])
    # Rounded, since 99.9 per cent of 1000 must not become the 1000th by the last bit of a float.
    rank = math.ceil(round(percentile * len(figures) / 100, 9))
    value, span = figures[max(rank, 1) - 1]
    return _Taken(value, span, len(figures))


def makespan(spans: Iterable[Span]) -> float | None:
    """Return the seconds from the first publication to the last end; None if either is not known."""
    spans = list(spans)
    published = [span.published for span in spans if span.published is not None]
    ended = [span.ended for span in spans if span.ended is not None]
    return max(ended) - min(published) if published and ended else None


def throughput(spans: Sequence[Span]) -> float | None:
    """Return the executions that ended in a slot, divided by the makespan, a second."""
    seconds = makespan(spans)
    ended = sum(span.runtime is not None for span in spans)
    return ended / seconds if seconds and ended else None


def overlap(spans: Iterable[Span]) -> float | None:
    """Return how many executions were in their slots at once when they were most; None if none began.

    One that ends at the very moment at which another starts does not overlap it. One that has not ended is in
    its slot still.
    """
    changes = []
    for span in spans:
        if span.started is not None:
            changes.append((span.started, 1))
            if span.ended is not None:
                changes.append((span.ended, -1))
    if not changes:
        return None
    running = peak = 0
    for _, change in sorted(changes):  # at the same time, ends come first
        running += change
        peak = max(peak, running)
    return float(max(peak, 1))


def _unknown(measure: str, spans: Sequence[Span]) -> str:
    if measure == "memory":
        return "the system does not tell how much memory the worker uses, or the test ended the worker"
    if not any(span.started is not None and span.ended is not None for span in spans):
        return "no task began and ended in a slot"
    return "the system does not tell"


# -- comparing


def _broken(measure: str, value: float, limit: Limit) -> bool:
    return value < limit.value if measure in LOWER_BOUNDS else value > limit.value


def _share(measure: str, taken: _Taken, limit: Limit) -> float:
    if measure in LOWER_BOUNDS:
        share = limit.value / taken.value if taken.value > 0 else _LARGEST_SHARE
    else:
        # A limit of no bytes at all is a fair one: any growth breaks it.
        share = taken.value / limit.value if limit.value > 0 else _LARGEST_SHARE * (taken.value > 0)
    return min(max(share, 0.0), _LARGEST_SHARE)


# -- showing


def _show(measure: str, value: float, limit: Limit) -> str:
    """Return a measured value; with more figures where rounding would make it look like its limit."""
    text = _format(measure, value)
    if value == limit.value or text != _format(measure, limit.value):
        return text
    if measure in DURATIONS:
        return f"{value:.6f} s"
    return f"{value:.0f} B" if measure == "memory" else f"{value:.6f} tasks/s"


def _format(measure: str, value: float) -> str:
    if measure in DURATIONS:
        return format_seconds(value)
    if measure == "memory":
        return format_bytes(value)
    if measure == "throughput":
        return f"{value:.3g} tasks/s" if value < 999.5 else f"{value:.0f} tasks/s"
    return f"{value:g}"


def _failure(
    measure: str, taken: _Taken, nearest: Nearest, spans: Sequence[Span], percentile: float, pool: str
) -> Failure:
    ranked = f" (percentile {percentile:g} of {taken.count} executions)" if taken.span and percentile < 100 else ""
    side = "below" if measure in LOWER_BOUNDS else "above"
    named = span_label(taken.span) if taken.span else _together(spans)
    return Failure(
        f"{named} under {pool}: {measure} {nearest.value}{ranked} is {side} the limit of {nearest.limit}",
        table(spans, _SUSPECTS[measure]),
    )


def _together(spans: Sequence[Span]) -> str:
    return names(Counter(task for task, _ in dict.fromkeys((span.task, span.id) for span in spans)))


def table(spans: Iterable[Span], suspicious: _Figure) -> str:
    """Return the worst executions as an aligned table; columns of which nothing is known are left out.

    :param suspicious: the figure by which they are ordered, the highest first.
    """

    def badness(span: Span) -> float:
        value = suspicious(span)
        return -math.inf if value is None else value

    worst = sorted(spans, key=badness, reverse=True)[:_WORST]
    columns = {
        "task": [span.task for span in worst],
        "id": [short_id(span.id) for span in worst],
        "retries": [str(span.retries) for span in worst],
        "slot": [span.slot or "" for span in worst],
    }
    for name, figure in _COLUMNS.items():
        values = [figure(span) for span in worst]
        if any(value is not None for value in values):
            shown = format_bytes if name == "memory" else format_seconds
            columns[name] = ["" if value is None else shown(value) for value in values]
    lines = _aligned(columns)
    if any(span.waited for span in worst if span.runtime is not None):
        lines.append("(runtime leaves out the time that the slot waited for a processor: waited)")
    return "\n".join(lines)


_COLUMNS: Mapping[str, _Figure] = {
    **_PER_SPAN,
    "waited": lambda span: span.waited,
    "memory": _growth,
}

#: The columns of words; figures stand to the right, so that they can be compared.
_WORDS = frozenset({"task", "id", "slot"})


def _aligned(columns: Mapping[str, Sequence[str]]) -> list[str]:
    padded = []
    for name, values in columns.items():
        width = max(len(text) for text in (name, *values))
        padded.append([text.ljust(width) if name in _WORDS else text.rjust(width) for text in (name, *values)])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
