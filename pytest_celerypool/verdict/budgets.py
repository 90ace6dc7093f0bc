"""Judge ``celery_budget``: what the tasks of a test took, against its limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import DURATIONS, LOWER_BOUNDS, BudgetSpec, Limit
from pytest_celerypool.trace import Span
from pytest_celerypool.units import format_bytes, format_seconds
from pytest_celerypool.verdict import Failure
from pytest_celerypool.verdict.comparing import interval, sample_size
from pytest_celerypool.verdict.matching import applies, names, no_match, select, short_id, span_label, spans_of
from pytest_celerypool.verdict.measures import PER_SPAN, TOGETHER, Range, best, growth, runtime

#: How many executions the table of a failure shows.
_WORST = 5
#: How many tasks that have not ended are named.
_MOST_NAMED = 5
#: Where a lower bound is missed altogether, the share would be infinite, which no table and no JSON can show.
_LARGEST_SHARE = 99.99
#: The part of a measure by which its bounds may differ and still be shown as one value.
_ALIKE = 0.05

#: The last two are of limits that were measured again: broken for sure, and not broken.
Verdict = Literal["kept", "broken", "inconclusive", "confirmed", "noise"]


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
class Judged:
    """One limit of a budget, judged.

    :ivar verdict: ``"inconclusive"`` where the measure is too close to the limit, or known too badly, to tell.
    :ivar range: what was measured.
    :ivar span: the one execution that decides, if there is one.
    :ivar text: what to say of a limit that was not kept, one line.
    :ivar reason: why it is inconclusive.
    :ivar detail: further lines on one that is broken.
    :ivar again: what came out when tasks were sent again.
    """

    measure: str
    verdict: Verdict
    nearest: Nearest
    range: Range
    span: Span | None = None
    text: str = ""
    reason: str = ""
    detail: str = ""
    again: str = ""

    def failure(self) -> Failure | None:
        """Return the failure that it is, if it is one."""
        if self.verdict not in ("broken", "confirmed"):
            return None
        return Failure(self.text, "\n".join(filter(None, (self.again, self.detail))))

    def note(self) -> str:
        """Return what to say of it although it fails nothing; empty if there is nothing to say."""
        if self.verdict not in ("inconclusive", "noise"):
            return ""
        return f"{self.text}: {'; '.join(filter(None, (self.reason, self.again)))}"


@dataclass(frozen=True)
class BudgetOutcome:
    """What became of one ``celery_budget``.

    :ivar judged: its limits; those are left out of which nothing was measured.
    :ivar unjudged: the measures of these.
    :ivar refused: the measures whose limits nothing could be told by.
    :ivar other_failures: what fails beside the limits, :attr:`other_notes` what is to be said beside them.
    """

    judged: tuple[Judged, ...] = ()
    unjudged: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    other_failures: tuple[Failure, ...] = ()
    other_notes: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[Failure, ...]:
        """What fails the test."""
        return (*self.other_failures, *(found for each in self.judged if (found := each.failure()) is not None))

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be judged, is inconclusive or was noise, and why; each one line."""
        return (*self.other_notes, *(note for each in self.judged if (note := each.note())))

    @property
    def nearest(self) -> Nearest | None:
        """The limit that was nearest to being broken; None where nothing was measured."""
        return max((each.nearest for each in self.judged), key=lambda each: each.share, default=None)

    @property
    def standings(self) -> list[str]:
        """What became of the limits that were not simply kept, for machines: ``runtime inconclusive``."""
        return [
            *(f"{each.measure} {each.verdict}" for each in self.judged if each.verdict != "kept"),
            *(f"{measure} unjudged" for measure in self.unjudged),
            *(f"{measure} refused" for measure in self.refused),
        ]


@dataclass(frozen=True)
class _Taken:
    """What was measured for one limit; `span` is the one execution it comes from, if there is one."""

    range: Range
    span: Span | None = None
    #: Of how many executions it is a percentile.
    count: int = 1


#: What orders the executions of a failure's table where the measure is one of all executions together.
_SUSPECTS: Mapping[str, Callable[[Span], float | None]] = {
    **{name: best(figure) for name, figure in PER_SPAN.items()},
    "memory": best(growth),
    "throughput": runtime,
    "overlap": best(PER_SPAN["queued"]),
    "makespan": best(PER_SPAN["total"]),
}

#: Results of repetitions that stand for those of the test: a measure and an execution to what it took when it ran
#: alone, or a measure alone to what it was.
Instead = Mapping[tuple[str, str, int] | str, Range]


def judge(
    spec: BudgetSpec,
    tasks: Sequence[TaskEntry],
    pool: str,
    *,
    green: bool,
    memory_growth: Range | None,
    instead: Instead | None = None,
) -> BudgetOutcome:
    """Judge one ``celery_budget`` of a test.

    :param spec: its limits; one that does not speak of `pool` limits nothing.
    :param tasks: all tasks of the test.
    :param pool: the name of the pool.
    :param green: whether its slots are greenlets: ``hold`` is judged there alone.
    :param memory_growth: bytes by which the worker's processes grew over the test, None if that is not known.
    :param instead: what was measured when tasks were sent again.
    """
    if not applies(spec.pools, pool):
        return BudgetOutcome()
    selected = select(spec.tasks, tasks)
    if not selected:
        return BudgetOutcome(other_failures=(no_match("celery_budget", spec.tasks, tasks, pool),))
    spans = spans_of(spec.tasks, selected)
    notes, judged, unjudged = [], [], []
    for measure, limit in spec.limits.items() if spans else ():
        if measure == "hold" and not green:
            continue
        taken = _take(measure, spans, spec.percentile, memory_growth, instead or {})
        if taken is None:
            unjudged.append(measure)
            notes.append(f"{measure} was not judged under {pool}: {_unknown(measure, spans)}")
            continue
        judged.append(_judge_limit(measure, limit, taken, spans, spec.percentile, pool))
        notes += _few(measure, taken, spans, spec.percentile)
    return BudgetOutcome(
        tuple(judged),
        tuple(unjudged),
        other_failures=tuple(_without_figures(selected, pool)),
        other_notes=tuple(notes),
    )


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


def _take(
    measure: str, spans: Sequence[Span], percentile: float, memory_growth: Range | None, instead: Instead
) -> _Taken | None:
    """Return what is measured, in the unit of the measure's limit; None where there is nothing to measure."""
    if measure in PER_SPAN:
        return _percentile(measure, spans, percentile, instead)
    found = instead.get(measure) or (memory_growth if measure == "memory" else TOGETHER[measure](spans))
    return None if found is None else _Taken(found)


def _percentile(measure: str, spans: Iterable[Span], percentile: float, instead: Instead) -> _Taken | None:
    """Return the figure at the nearest rank: the smallest that at least `percentile` per cent do not exceed."""
    found = [
        (taken, span)
        for span in spans
        if (taken := instead.get((measure, span.id, span.retries)) or PER_SPAN[measure](span)) is not None
    ]
    if not found:
        return None
    found.sort(key=lambda pair: pair[0].best)
    # Rounded, since 99.9 per cent of 1000 must not become the 1000th by the last bit of a float.
    rank = math.ceil(round(percentile * len(found) / 100, 9))
    taken, span = found[max(rank, 1) - 1]
    # The ends of the range at that rank: whose value is known badly may as well stand before or behind it.
    low = sorted(each.low for each, _ in found)[max(rank, 1) - 1]
    high = sorted(each.high for each, _ in found)[max(rank, 1) - 1]
    return _Taken(Range(low, high, taken.noise), span, len(found))


def _unknown(measure: str, spans: Sequence[Span]) -> str:
    if measure == "memory":
        return (
            "the system does not tell how much memory the worker uses, the test ended the worker, or a process of its "
            "pool ended or began meanwhile"
        )
    if not any(span.started is not None and span.ended is not None for span in spans):
        return "no task began and ended in a slot"
    return "the system does not tell"


# -- comparing


def _judge_limit(
    measure: str, limit: Limit, taken: _Taken, spans: Sequence[Span], percentile: float, pool: str
) -> Judged:
    lower = measure in LOWER_BOUNDS
    broken = taken.range.falls_short(limit.value) if lower else taken.range.exceeds(limit.value)
    value = _shown(measure, taken.range, limit, certain=bool(broken))
    nearest = Nearest(measure, value, limit.text, _share(measure, taken.range, limit))
    if broken is False:
        return Judged(measure, "kept", nearest, taken.range, taken.span)
    ranked = f" (percentile {percentile:g} of {taken.count} executions)" if taken.span and percentile < 100 else ""
    named = f"{span_label(taken.span) if taken.span else _together(spans)} under {pool}"
    told = f"{named}: {measure} {nearest.value}{ranked} is"
    if broken:
        text = f"{told} {'below' if lower else 'above'} the limit of {limit.text}"
        suspects = table(spans, _SUSPECTS[measure])
        return Judged(measure, "broken", nearest, taken.range, taken.span, text, detail=suspects)
    text = f"{told} inconclusive against the limit of {limit.text}"
    return Judged(measure, "inconclusive", nearest, taken.range, taken.span, text, _doubt(measure, taken.range))


def _doubt(measure: str, found: Range) -> str:
    """Say why a measure cannot be told from its limit."""
    if found.told:
        return f"it is within its noise of {shown(measure, found.noise)}"
    unknown = "nobody can tell how much of it others took, who waited for a processor meanwhile or stored the result"
    if measure in ("cpu", "hold"):
        unknown = "Python collected garbage meanwhile, of whichever tasks that was"
    if not _is_one(found):  # then the text of the limit has both ends
        return unknown
    return f"it lies between {shown(measure, found.low)} and {shown(measure, found.high)}, and {unknown}"


def _share(measure: str, taken: Range, limit: Limit) -> float:
    value = taken.best
    if measure in LOWER_BOUNDS:
        share = limit.value / value if value > 0 else _LARGEST_SHARE
    else:
        # A limit of no bytes at all is a fair one: any growth breaks it.
        share = value / limit.value if limit.value > 0 else _LARGEST_SHARE * (value > 0)
    return min(max(share, 0.0), _LARGEST_SHARE)


def _few(measure: str, taken: _Taken, spans: Sequence[Span], percentile: float) -> list[str]:
    """Warn of a percentile of too few executions: it is the largest of them whatever happens."""
    if taken.span is None or percentile >= 100:
        return []
    needed = sample_size(percentile)
    if taken.count >= needed:
        return []
    values = sorted(value for span in spans if (value := _SUSPECTS[measure](span)) is not None)
    low, high = interval(values, percentile)
    above = f"and {shown(measure, high)}" if high < math.inf else "and more than the longest"
    return [
        f"{measure}: percentile {percentile:g} of {taken.count} executions lies between {shown(measure, low)} {above} "
        f"(each bound sure to 95 %); {needed} executions are needed to tell"
    ]


# -- showing


def _shown(measure: str, taken: Range, limit: Limit, *, certain: bool) -> str:
    """Return what was measured; of what broke its limit for certain, the end of the range that is nearest to it."""
    if _is_one(taken):
        return _show(measure, taken.best, limit)
    if certain:
        return shown(measure, taken.high if measure in LOWER_BOUNDS else taken.low)
    return shown_range(measure, taken)


def _is_one(taken: Range) -> bool:
    return taken.high - taken.low <= max(taken.noise, _ALIKE * taken.high)


def shown_range(measure: str, taken: Range) -> str:
    """Return what was measured: one value, or the two between which it lies."""
    if _is_one(taken):
        return shown(measure, taken.best)
    return f"between {shown(measure, taken.low)} and {shown(measure, taken.high)}"


def _show(measure: str, value: float, limit: Limit) -> str:
    """Return a measured value; with more figures where rounding would make it look like its limit."""
    text = shown(measure, value)
    if value == limit.value or text != shown(measure, limit.value):
        return text
    if measure in DURATIONS:
        return f"{value * 1000:.3f} ms" if value < 1 else f"{value:.6f} s"
    return f"{value:.0f} B" if measure == "memory" else f"{value:.6f} tasks/s"


def shown(measure: str, value: float) -> str:
    """Return a value of a measure as messages show it."""
    if measure in DURATIONS:
        return format_seconds(value)
    if measure == "memory":
        return format_bytes(value)
    if measure == "throughput":
        return f"{value:.3g} tasks/s" if value < 999.5 else f"{value:.0f} tasks/s"
    return f"{value:g}"


def _together(spans: Sequence[Span]) -> str:
    return names(Counter(task for task, _ in dict.fromkeys((span.task, span.id) for span in spans)))


def table(spans: Iterable[Span], suspicious: Callable[[Span], float | None]) -> str:
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
    if any(map(_left_out, worst)):
        lines.append("(runtime leaves out the time that the slot waited for a processor: waited)")
    return "\n".join(lines)


def _left_out(span: Span) -> float | None:
    """Return what is not counted of the time that an execution was in its slot; None where nobody knows."""
    counted = runtime(span)
    return None if span.waited is None or span.runtime is None or counted is None else span.runtime - counted


_COLUMNS: Mapping[str, Callable[[Span], float | None]] = {
    **{name: best(figure) for name, figure in PER_SPAN.items()},
    "queued": lambda span: span.queued,
    "total": lambda span: span.total,
    "waited": _left_out,
    "memory": best(growth),
}

#: The columns of words; figures stand to the right, so that they can be compared.
_WORDS = frozenset({"task", "id", "slot"})


def _aligned(columns: Mapping[str, Sequence[str]]) -> list[str]:
    padded = []
    for name, values in columns.items():
        width = max(len(text) for text in (name, *values))
        padded.append([text.ljust(width) if name in _WORDS else text.rjust(width) for text in (name, *values)])
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]
