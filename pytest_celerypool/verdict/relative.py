"""Compare what the tasks of one test took under several pools: the relative limits of ``celery_budget``.

Each pool's run of the test yields facts, plain data that travels with its report; whoever has the reports of all pools
compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

from pytest_celerypool.markers import DURATIONS, BudgetSpec
from pytest_celerypool.trace import Span, TaskEntry
from pytest_celerypool.units import format_bytes, format_seconds
from pytest_celerypool.verdict import evidence, measures
from pytest_celerypool.verdict.comparing import NOISE_S, Comparison, compare, thinned
from pytest_celerypool.verdict.matching import applies, names, select, spans_of

#: By how much the growth of memory differs by chance, in bytes.
_NOISE_OF_MEMORY = 4 * 2**20

_PER_SPAN: Mapping[str, Callable[[Span], float | None]] = {
    **evidence.FIGURES,
    "total": measures.best(measures.total_range),
}
_TOGETHER: Mapping[str, Callable[[Sequence[Span]], float | None]] = {
    "makespan": measures.makespan,
    "throughput": measures.throughput,
    "overlap": measures.overlap,
}


class Bound(TypedDict):
    """How a measure may relate to that under another pool."""

    to: str
    at_most: float | None
    at_least: float | None


class Facts(TypedDict):
    """What one relative budget is about, under one pool."""

    pool: str
    #: Whether the marker speaks of this pool; otherwise others are only compared with it.
    judged: bool
    tasks: str
    count: int
    percentile: float
    bounds: dict[str, Bound]
    #: Figures of the executions, or one of them all; none where nothing is known.
    figures: dict[str, list[float]]


class Broken(NamedTuple):
    """A pool that broke its bounds, and the text that says so."""

    column: str
    text: str


def facts(spec: BudgetSpec, tasks: Iterable[TaskEntry], pool: str, memory_growth: int | None) -> Facts | None:
    """Return what a budget's relative limits compare, in a form that survives JSON; None if `pool` is not concerned.

    :param tasks: all tasks of the test.
    :param pool: the name of the pool.
    :param memory_growth: bytes by which the worker's processes grew over the test, None if that is not known.
    """
    judged = applies(spec.pools, pool)
    if not any(judged or ratio.to.name == pool for ratio in spec.ratios.values()):
        return None
    selected = [span for span in spans_of(spec.tasks, select(spec.tasks, tasks)) if span.started is not None]
    return {
        "pool": pool,
        "judged": judged,
        "tasks": names(Counter(span.task for span in selected)),
        "count": len(selected),
        "percentile": spec.percentile,
        "bounds": {
            name: {"to": ratio.to.name, "at_most": ratio.at_most, "at_least": ratio.at_least}
            for name, ratio in spec.ratios.items()
        },
        "figures": {name: _figures(name, selected, memory_growth) for name in spec.ratios},
    }


def _figures(measure: str, spans: Sequence[Span], memory_growth: int | None) -> list[float]:
    if measure in _PER_SPAN:
        ended = [span for span in spans if span.ended is not None]
        return thinned([value for span in ended if (value := _PER_SPAN[measure](span)) is not None])
    if measure == "memory":
        return [] if memory_growth is None else [float(memory_growth)]
    value = _TOGETHER[measure](spans)
    return [] if value is None else [value]


def judge(sides: Mapping[str, Facts]) -> tuple[list[Broken], list[str]]:
    """Compare the pools under which one test ran.

    :param sides: each column of the matrix to its :func:`facts`.
    :returns: what is broken, and lines on what was not compared or could not be told.
    """
    broken: dict[str, list[str]] = {}
    notes: list[str] = []
    missing: dict[tuple[str, str], list[str]] = {}
    compared = False
    for column, side in sides.items():
        for measure, bound in side["bounds"].items():
            if side["pool"] == bound["to"] or not side["judged"]:
                continue
            compared = True
            other = _other(sides, column, bound["to"])
            if other is None or not other[1]["figures"][measure]:
                missing.setdefault((measure, bound["to"]), []).append(column)
            elif not side["figures"][measure]:
                notes.append(f"{measure} not compared: it is not known under {column}")
            else:
                for text, found in _found(measure, bound, (column, side), other):
                    if found == "worse":
                        broken.setdefault(column, []).append(text)
                    else:
                        line = text.partition("\n")[0]
                        notes.append(f"{line}, but within noise" if found == "unclear" else line)
    notes += [
        f"{measure} under {', '.join(columns)} not compared: the test has no figures under {to}, where it did not run, "
        "or failed"
        for (measure, to), columns in missing.items()
    ]
    if not compared:
        notes.append(f"relative budget not compared, only {', '.join(sides)} took part")
    return [Broken(column, "\n\n".join(texts)) for column, texts in broken.items()], notes


_Side = tuple[str, Facts]


def _other(sides: Mapping[str, Facts], column: str, pool: str) -> _Side | None:
    """Return the side of `pool` with as many slots as `column`, where these are an axis too."""
    found = {name: side for name, side in sides.items() if side["pool"] == pool}
    alike = pool + column.removeprefix(sides[column]["pool"])
    if alike in found:
        return alike, found[alike]
    return next(iter(found.items())) if len(found) == 1 else None


def _found(measure: str, bound: Bound, own: _Side, other: _Side) -> list[tuple[str, str]]:
    """Return texts of the bounds that do not hold, each with ``"worse"`` or ``"unclear"``, or why none was compared."""
    found: list[tuple[str, str]] = []
    here, there = own[1]["figures"][measure], other[1]["figures"][measure]
    if min(*here, *there) < 0:
        return [(f"{measure} under {own[0]} not compared: what shrank has no ratio", "")]
    count = min(own[1]["count"], other[1]["count"])
    if bound["at_most"] is not None:
        result = _compare(measure, there, here, own[1]["percentile"], bound["at_most"], count)
        if result.verdict != "within":
            text = _text(measure, "above", bound["at_most"], own, other, (result.after, result.before))
            found.append((text, result.verdict))
    if bound["at_least"] is not None:
        result = _compare(measure, here, there, own[1]["percentile"], 1 / bound["at_least"], count)
        if result.verdict != "within":
            text = _text(measure, "below", bound["at_least"], own, other, (result.before, result.after))
            found.append((text, result.verdict))
    return found


def _compare(
    measure: str, before: Sequence[float], after: Sequence[float], percentile: float, factor: float, count: int
) -> Comparison:
    if measure in _PER_SPAN:
        return compare(before, after, percentile, factor, NOISE_S.get(measure, 0.0), same=factor)
    if measure == "overlap":  # it is counted, not measured
        worse = after[0] > before[0] * factor
        return Comparison(before[0], after[0], before[0] * factor, "worse" if worse else "within")
    noise = _NOISE_OF_MEMORY if measure == "memory" else NOISE_S.get(measure, 0.0)
    # One growth is one figure; a span of time in which many executions ended is as sure as these.
    made_of = 1 if measure == "memory" else count
    return compare(before, after, percentile, factor, noise, same=factor, made_of=made_of)


def _text(measure: str, side: str, limit: float, own: _Side, other: _Side, values: tuple[float, float]) -> str:
    value, reference = values
    ratio = f"{value / reference:.2f} times" if reference > 0 else "infinitely many times"
    return "\n".join(
        [
            f"{own[1]['tasks']} under {own[0]}: {measure} is {ratio} that under {other[0]}, {side} the limit of "
            f"{limit:g} times",
            *(
                f"  {(name + ':').ljust(max(len(own[0]), len(other[0])) + 1)} {_show(measure, shown)}"
                f"{_ranked(measure, facts)}"
                for (name, facts), shown in ((other, reference), (own, value))
            ),
        ]
    )


def _ranked(measure: str, side: Facts) -> str:
    count = side["count"]
    executions = "1 execution" if count == 1 else f"{count} executions"
    if measure in _PER_SPAN and side["percentile"] < 100:
        return f" (percentile {side['percentile']:g} of {executions})"
    return f" (highest of {executions})" if measure in _PER_SPAN and count > 1 else f" ({executions})"


def _show(measure: str, value: float) -> str:
    if measure in DURATIONS:
        return format_seconds(value)
    if measure == "memory":
        return format_bytes(value)
    return f"{value:.3g} tasks/s" if measure == "throughput" else f"{value:g} at once"
