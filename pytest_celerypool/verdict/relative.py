"""Compare what the tasks of one test took under several pools: the relative limits of ``celery_budget``.

Each pool's run of the test yields facts, plain data that travels with its report; whoever has the reports of all pools
compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypedDict

from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import DURATIONS, BudgetSpec
from pytest_celerypool.trace import Span
from pytest_celerypool.units import format_bytes, format_seconds
from pytest_celerypool.verdict.comparing import NOISE_S, Comparison, compare, thinned
from pytest_celerypool.verdict.matching import applies, names, select, spans_of
from pytest_celerypool.verdict.measures import PER_SPAN, TOGETHER, Range

#: By how much the growth of memory differs by chance, in bytes.
_NOISE_OF_MEMORY = 4 * 2**20


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
    #: Figures of the executions, or one of them all, as low as they may be; none where nothing is known.
    figures: dict[str, list[float]]
    #: The same as high as they may be.
    highest: dict[str, list[float]]


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
    ranges = {name: _ranges(name, selected, memory_growth) for name in spec.ratios}
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
        "figures": {name: thinned([each.low for each in found]) for name, found in ranges.items()},
        "highest": {name: thinned([each.high for each in found]) for name, found in ranges.items()},
    }


def _ranges(measure: str, spans: Sequence[Span], memory_growth: int | None) -> list[Range]:
    if measure in PER_SPAN:
        found = [PER_SPAN[measure](span) for span in spans if span.ended is not None]
    elif measure == "memory":
        found = [None if memory_growth is None else Range(float(memory_growth), float(memory_growth))]
    else:
        found = [TOGETHER[measure](spans)]
    return [each.settled for each in found if each is not None]


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
    here, there = ((side[1]["figures"][measure], side[1]["highest"][measure]) for side in (own, other))
    if min(*here[0], *there[0]) < 0:
        return [(f"{measure} under {own[0]} not compared: what shrank has no ratio", "")]
    count = min(own[1]["count"], other[1]["count"])
    if bound["at_most"] is not None:
        result = _for_sure(measure, there, here, own[1]["percentile"], bound["at_most"], count)
        if result.verdict != "within":
            text = _text(measure, "above", bound["at_most"], own, other, (result.after, result.before))
            found.append((text, result.verdict))
    if bound["at_least"] is not None:
        result = _for_sure(measure, here, there, own[1]["percentile"], 1 / bound["at_least"], count)
        if result.verdict != "within":
            text = _text(measure, "below", bound["at_least"], own, other, (result.before, result.after))
            found.append((text, result.verdict))
    return found


#: Figures of one side, as low and as high as they may be.
_Sides = tuple[Sequence[float], Sequence[float]]


def _for_sure(measure: str, before: _Sides, after: _Sides, percentile: float, factor: float, count: int) -> Comparison:
    """Compare what is known of two sides: worse only where it is so however their measures lie in their ranges."""
    sure = _compare(measure, before[1], after[0], percentile, factor, count)
    if sure.verdict == "worse" or (before[0], after[0]) == (before[1], after[1]):
        return sure
    perhaps = _compare(measure, before[0], after[1], percentile, factor, count)
    return replace(perhaps, verdict="unclear") if perhaps.verdict != "within" else sure


def _compare(
    measure: str, before: Sequence[float], after: Sequence[float], percentile: float, factor: float, count: int
) -> Comparison:
    if measure in PER_SPAN:
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
    if measure in PER_SPAN and side["percentile"] < 100:
        return f" (percentile {side['percentile']:g} of {executions})"
    return f" (highest of {executions})" if measure in PER_SPAN and count > 1 else f" ({executions})"


def _show(measure: str, value: float) -> str:
    if measure in DURATIONS:
        return format_seconds(value)
    if measure == "memory":
        return format_bytes(value)
    return f"{value:.3g} tasks/s" if measure == "throughput" else f"{value:g} at once"
