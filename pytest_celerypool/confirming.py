"""Send tasks again, alone, that broke a budget or came too close to tell, and let that decide.

One repetition that keeps the limit shows that what was measured in the test was noise: what disturbs a measurement adds
to it. Where none does, the budget is broken, and the verdict says how often that was confirmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from pytest_celerypool.agent.publishing import Publication
from pytest_celerypool.markers import LOWER_BOUNDS, BudgetSpec, matches
from pytest_celerypool.repetition import apart, send, wait
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict import Failure
from pytest_celerypool.verdict.budgets import BudgetOutcome, Instead, Judged, shown
from pytest_celerypool.verdict.matching import spans_of
from pytest_celerypool.verdict.measures import PER_SPAN, TOGETHER, Range
from pytest_celerypool.worker import WorkerHandle

#: How many executions of one budget are sent again: of a percentile that many are above, a few tell as much as all.
_MOST = 20

Judge = Callable[[Instead], BudgetOutcome]


def confirm(handle: WorkerHandle, spec: BudgetSpec, outcome: BudgetOutcome, times: int, judge: Judge) -> BudgetOutcome:
    """Return what becomes of a budget once its limits that were not kept have been measured again.

    :param handle: all of whose tasks have ended.
    :param outcome: of the test itself.
    :param times: how often at most each task is sent again.
    :param judge: judges the budget anew with what was measured instead.
    """
    instead: dict[tuple[str, str, int] | str, Range] = {}
    said: dict[str, str] = {}
    notes: list[str] = []
    for _ in range(_MOST):
        doubted = next((each for each in outcome.judged if each.verdict != "kept" and each.measure not in said), None)
        if doubted is None or handle.launched.death() is not None:
            break
        limit = spec.limits[doubted.measure].value
        found = _measured_again(handle, spec, doubted, times, limit)
        if not found:
            said[doubted.measure] = (
                "could not be sent again, since the test did not publish it itself, or it did not end"
            )
            continue
        values = [shown(doubted.measure, value) for value in found]
        kept = _keeps(doubted.measure, found[-1], limit)
        instead[_key(doubted)] = Range(found[-1], found[-1]) if kept else Range(*[median(found)] * 2)
        if kept:
            notes.append(f"{_first(doubted)}: noise, sent again alone it was {', '.join(values)}")
        else:
            said[doubted.measure] = f"confirmed: sent again alone {len(found)} times, it was {', '.join(values)}"
        outcome = judge(instead)
    return _with(outcome, said, notes)


def _with(outcome: BudgetOutcome, said: dict[str, str], notes: Sequence[str]) -> BudgetOutcome:
    """Return an outcome whose failures say what the repetitions showed."""
    broken = {each.text: each.measure for each in outcome.judged if each.verdict == "broken"}
    failures = [
        Failure(failure.summary, f"{said[broken[failure.summary]]}\n{failure.detail}".rstrip())
        if broken.get(failure.summary) in said
        else failure
        for failure in outcome.failures
    ]
    doubts = {each.text: each.measure for each in outcome.judged if each.verdict == "inconclusive"}
    told = [f"{note}; it {said[doubts[note]]}" if doubts.get(note) in said else note for note in outcome.notes]
    return replace(outcome, failures=tuple(failures), notes=(*told, *notes))


def _first(judged: Judged) -> str:
    """Return what was said of a limit without the reasons."""
    return judged.text.partition(": other processes")[0].partition(": it is within")[0]


def _key(judged: Judged) -> tuple[str, str, int] | str:
    return judged.measure if judged.span is None else (judged.measure, judged.span.id, judged.span.retries)


def _keeps(measure: str, value: float, limit: float) -> bool:
    return value >= limit if measure in LOWER_BOUNDS else value <= limit


def _measured_again(handle: WorkerHandle, spec: BudgetSpec, judged: Judged, times: int, limit: float) -> list[float]:
    """Return what repetitions took, up to the first that kept the limit; empty if there can be none."""
    publications = [
        each
        for each in handle.sent
        if (matches(spec.tasks, each.task) if judged.span is None else each.id == judged.span.id)
    ]
    values: list[float] = []
    while publications and len(values) < times and not (values and _keeps(judged.measure, values[-1], limit)):
        value = _once(handle, spec, judged, publications)
        if value is None:
            break
        values.append(value)
    return values


def _once(handle: WorkerHandle, spec: BudgetSpec, judged: Judged, publications: Sequence[Publication]) -> float | None:
    before = handle.settled_memory() if judged.measure == "memory" else None
    with apart(handle) as repeated:
        _send_in_time(handle, publications)
        if wait(handle) is not None:
            return None
    if judged.measure == "memory":
        after = handle.settled_memory()
        return None if before is None or after is None else float(after - before)
    spans = spans_of(spec.tasks, repeated.tasks.values())
    found = _of(judged, spans)
    return None if found is None else found.best


def _of(judged: Judged, spans: Sequence[Span]) -> Range | None:
    if judged.span is None:
        return TOGETHER[judged.measure](spans) if spans else None
    alike = [span for span in spans if span.retries == judged.span.retries] or spans
    return PER_SPAN[judged.measure](alike[-1]) if alike else None


def _send_in_time(handle: WorkerHandle, publications: Sequence[Publication]) -> None:
    """Publish at the distances at which the test did: what it waited for in between belongs to a makespan."""
    begun = time.monotonic()
    for publication in publications:
        time.sleep(max(0.0, begun + publication.published - publications[0].published - time.monotonic()))
        send(handle, publication)
