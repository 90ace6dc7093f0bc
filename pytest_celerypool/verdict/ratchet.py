"""Compare what the tasks of a run took with the baseline of its machine, and say what becomes of the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_celerypool.settings import RATCHET_MEASURES, Ratchet
from pytest_celerypool.units import format_seconds
from pytest_celerypool.verdict.comparing import NOISE_S, Comparison, compare, needed, thinned
from pytest_celerypool.verdict.evidence import Evidence

#: Test to what a task took in it: ``count``, ``concurrency``, and a list of seconds for each measure.
Tests = Mapping[str, Mapping[str, Any]]
#: Task to pool to tests.
Tasks = Mapping[str, Mapping[str, Tests]]

#: A figure that is better by less than this part of it does not replace the other: it would by chance in every run.
_BETTER = 0.05


@dataclass(frozen=True)
class Compared:
    """One rule for one task under one pool.

    :ivar tests: those in which the task ran in both runs; the others are not compared.
    :ivar counts: the executions in the baseline and in the run, :attr:`slots` those of the workers.
    """

    rule: Ratchet
    task: str
    pool: str
    tests: tuple[str, ...]
    counts: tuple[int, int]
    slots: tuple[str, str]
    comparison: Comparison

    @property
    def worse(self) -> bool:
        """Whether it is a regression."""
        return self.comparison.verdict == "worse"

    @property
    def few(self) -> bool:
        """Whether there are too few executions for the percentile to be more than their maximum."""
        return min(self.counts) < needed(self.rule.percentile)


@dataclass
class Outcome:
    """What the comparison of a run with the baseline of its machine says."""

    compared: list[Compared] = field(default_factory=list)
    #: Tasks and pools of which the baseline has nothing for any test of the run.
    unknown: list[tuple[str, str]] = field(default_factory=list)
    #: Rules that were not compared, and why; each one line.
    notes: list[str] = field(default_factory=list)

    def regressions(self) -> list[list[Compared]]:
        """Return what is worse than the rules allow: a list for each task and pool."""
        found: dict[tuple[str, str], list[Compared]] = {}
        for each in self.compared:
            if each.worse:
                found.setdefault((each.task, each.pool), []).append(each)
        return list(found.values())


#: Ends the key of what a measure took at least, which is compared and not stored.
_LOW = "_low"


def of_run(witnesses: Iterable[tuple[str, Evidence]]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """Return what a run has of its tasks, as a baseline holds it, and what it took at least.

    Of a measure that is a range a baseline has the highest value, and a run is compared with its lowest: what others
    may have cost in either run is no regression of the task.

    :param witnesses: the tests that passed, without their pool, and what one task took in them; a test that ran twice
        is there twice.
    """
    samples: dict[tuple[str, str, str], list[Evidence]] = {}
    for test, evidence in witnesses:
        samples.setdefault((evidence["task"], evidence["column"], test), []).append(evidence)
    found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for (task, column, test), several in samples.items():
        found.setdefault(task, {}).setdefault(column, {})[test] = _figures(several)
    return found


def _figures(several: Sequence[Evidence]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "count": sum(each["count"] for each in several),
        "concurrency": several[-1]["concurrency"],
    }
    for measure in RATCHET_MEASURES:
        low = [value for each in several for value in each[measure]]
        high = {"runtime": "runtime_high", "queued": "queued_high"}.get(measure, measure)
        values = [value for each in several for value in each[high]]  # type: ignore[literal-required]
        if values:
            figures[measure] = [round(value, 6) for value in thinned(values)]
            if low != values:
                figures[measure + _LOW] = [round(value, 6) for value in thinned(low)]
    return figures


def _stored(run: Tasks) -> Tasks:
    """Return what a run has, without what is not stored."""

    def plain(figures: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: value for name, value in figures.items() if not name.endswith(_LOW)}

    return {
        task: {pool: {test: plain(figures) for test, figures in tests.items()} for pool, tests in pools.items()}
        for task, pools in run.items()
    }


def judge(baseline: Tasks, run: Tasks, rules: Sequence[Ratchet]) -> Outcome:
    """Compare a run with the baseline of its machine.

    Only tests that are in both count, so that a run of a part of the tests is compared with that part.
    """
    outcome = Outcome()
    for task, pool, tests, known in _pairs(baseline, run):
        common = [test for test in tests if test in known]
        if not common:
            outcome.unknown.append((task, pool))
            continue
        for rule in rules:
            found = _compare(rule, task, pool, {test: known[test] for test in common}, tests)
            if isinstance(found, str):
                outcome.notes.append(found)
            elif found is not None:
                outcome.compared.append(found)
    return outcome


def _pairs(baseline: Tasks, run: Tasks) -> Iterator[tuple[str, str, Tests, Tests]]:
    for task, pools in run.items():
        for pool, tests in pools.items():
            yield task, pool, tests, baseline.get(task, {}).get(pool, {})


def _compare(rule: Ratchet, task: str, pool: str, known: Tests, ran: Tests) -> Compared | str | None:
    """Return the comparison, why there is none, or None where one of the sides has no such figure."""
    tests = tuple(test for test in known if rule.measure in known[test] and rule.measure in ran[test])
    if not tests:
        return None
    sides = [[side[test] for test in tests] for side in (known, ran)]
    slots = tuple(", ".join(dict.fromkeys(str(each.get("concurrency", "?")) for each in side)) for side in sides)
    if rule.measure == "queued" and slots[0] != slots[1]:
        return f"queued of {task} under {pool} not compared: {slots[0]} slots in the baseline, {slots[1]} in this run"
    before = [value for each in sides[0] for value in each[rule.measure]]
    after = [value for each in sides[1] for value in each.get(rule.measure + _LOW, each[rule.measure])]
    counts = tuple(sum(int(each.get("count", len(each[rule.measure]))) for each in side) for side in sides)
    comparison = compare(before, after, rule.percentile, 1 + rule.tolerance, NOISE_S[rule.measure])
    return Compared(rule, task, pool, tests, (counts[0], counts[1]), (slots[0], slots[1]), comparison)


# -- what becomes of the baseline

_Figures = Mapping[str, Any]


def replaced(baseline: Tasks, run: Tasks) -> Tasks:
    """Return a baseline in which the figures of a run stand in place of those of the same tasks, pools and tests."""
    return _merged(baseline, _stored(run), lambda _, __, ran: ran)


def tightened(baseline: Tasks, run: Tasks, rules: Sequence[Ratchet]) -> Tasks:
    """Return a baseline that a run made tighter where it was better, and nowhere looser.

    What the baseline does not have yet is taken from the run. A measure of which it has figures is replaced, for all
    tests of a task and pool that are compared, if by a rule it is better, and by none worse. What regressed stays.
    """
    steps: dict[tuple[str, str, str], list[float]] = {}
    regressed = {(each.task, each.pool) for each in judge(baseline, run, rules).compared if each.worse}
    run = _stored(run)
    for each in judge(baseline, run, rules).compared:
        was, now = each.comparison.before, each.comparison.after
        # What is not better by enough is better by nothing.
        gain = was - now if now > was or was - now > _BETTER * was else 0.0
        steps.setdefault((each.task, each.pool, each.rule.measure), []).append(gain)
    better = {
        place for place, gains in steps.items() if max(gains) > 0 and min(gains) >= 0 and place[:2] not in regressed
    }

    def merge(place: tuple[str, str], known: _Figures, ran: _Figures) -> _Figures:
        taken = {measure for measure in RATCHET_MEASURES if (*place, measure) in better and measure in ran}
        about = {name: ran[name] for name in ("count", "concurrency") if taken}
        return {**ran, **known, **about, **{measure: ran[measure] for measure in taken}}

    return _merged(baseline, run, merge)


def _merged(
    baseline: Tasks, run: Tasks, merge: Callable[[tuple[str, str], _Figures, _Figures], _Figures]
) -> dict[str, dict[str, Tests]]:
    """Return a baseline and a run together; `merge` decides where both have figures, given task and pool."""
    merged: dict[str, dict[str, Tests]] = {task: dict(pools) for task, pools in baseline.items()}
    for task, pool, tests, known in _pairs(baseline, run):
        both = {test: merge((task, pool), known[test], ran) if test in known else ran for test, ran in tests.items()}
        merged.setdefault(task, {})[pool] = {**known, **both}
    return merged


# -- showing


def render(regression: Sequence[Compared], file: str) -> str:
    """Return the text of a regression of one task under one pool, with both sides.

    :param file: the name of the baseline.
    """
    first = regression[0]
    what = ", ".join(f"{each.rule.measure} {each.rule.statistic}" for each in regression)
    lines = [f"{first.task} under {first.pool} takes more than its baseline in {file}: {what}"]
    for each in regression:
        found, rule = each.comparison, each.rule
        slots = [f", {number} slots" if each.slots[0] != each.slots[1] else "" for number in each.slots]
        lines += [
            "",
            f"  {rule.statistic} of {rule.measure}",
            f"    baseline  {_show(found.before)} ({_executions(each.counts[0])}{slots[0]})",
            f"    this run  {_show(found.after)} ({_executions(each.counts[1])}{slots[1]})",
            f"    limit     {_show(found.limit)} (baseline +{100 * rule.tolerance:g}%)",
            f"    ratio     {found.ratio:.2f}",
        ]
        if each.few:
            lines.append(f"    {too_few(each)}")
    lines += ["", "compared over " + ", ".join(first.tests[:_MOST_TESTS]) + _more(len(first.tests) - _MOST_TESTS)]
    return "\n".join([*lines, "to accept it, run these tests once with --celery-baseline and without the ratchet"])


#: How many tests a text names.
_MOST_TESTS = 3


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _executions(count: int) -> str:
    return "1 execution" if count == 1 else f"{count} executions"


def _show(seconds: float) -> str:
    return format_seconds(seconds)


def too_few(each: Compared) -> str:
    """Return what to say of a percentile of so few executions that it is their maximum."""
    statistic, need = each.rule.statistic, needed(each.rule.percentile)
    return f"{statistic} of {_executions(min(each.counts))} is their maximum; it takes {need} for more"


def unclear(each: Compared) -> str:
    """Return what to say of a figure that is above its limit by no more than chance can do."""
    found = each.comparison
    more = f"; {found.enough} executions would tell" if found.enough > min(each.counts) else ""
    return (
        f"{each.rule.measure} {each.rule.statistic} of {each.task} under {each.pool} is {_show(found.after)}, above the"
        f" limit of {_show(found.limit)} (baseline {_show(found.before)}), but within noise{more}"
    )
