"""Send tasks again, alone, that broke a budget or came too close to tell, and let that decide.

One repetition that keeps the limit shows that what was measured in the test was noise: what disturbs a measurement adds
to it. Where none does, the budget is broken, and the verdict says how often that was confirmed.

A repetition says something of the test only if it did the same: what ended in another state, at another retry, or
without those that followed it in the test, took another time for another reason.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pytest_celerypool.agent.publishing import Publication
from pytest_celerypool.launch import growth
from pytest_celerypool.ledger import Ledger
from pytest_celerypool.markers import LOWER_BOUNDS, BudgetSpec
from pytest_celerypool.repetition import apart, countdown_of, send, wait
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.budgets import BudgetOutcome, Instead, Judged, shown_range
from pytest_celerypool.verdict.matching import spans_of
from pytest_celerypool.verdict.measures import PER_SPAN, TOGETHER, Range, makespan
from pytest_celerypool.worker import WorkerHandle

#: How many executions of one limit are sent again at most, each as often as was asked for: of a percentile that many
#: are above, a few tell as much as all.
MOST = 20

#: What an execution takes in its slot. All else depends on the other tasks of the test too.
_IN_SLOT = frozenset({"runtime", "cpu", "hold"})

Judge = Callable[[Instead], BudgetOutcome]


class _UnlikeError(Exception):
    """A repetition could not be made, or was not one; the text says why."""


class _Repetition(NamedTuple):
    """What a repetition took, and what the budget is to be judged with instead of what the test took."""

    value: Range
    instead: Mapping[tuple[str, str, int] | str, Range]


def confirm(handle: WorkerHandle, spec: BudgetSpec, outcome: BudgetOutcome, times: int, judge: Judge) -> BudgetOutcome:
    """Return what becomes of a budget once its limits that were not kept have been measured again.

    :param handle: all of whose tasks have ended.
    :param outcome: of the test itself.
    :param times: how often at most each task is sent again.
    :param judge: judges the budget anew with what was measured instead.
    """
    confirmation = _Confirmation(handle, spec, times, judge)
    judged = [each if each.verdict == "kept" else confirmation.settle(each) for each in outcome.judged]
    return replace(outcome, judged=tuple(judged))


class _Confirmation:
    """The repetitions for one budget of one test."""

    def __init__(self, handle: WorkerHandle, spec: BudgetSpec, times: int, judge: Judge) -> None:
        self._handle, self._spec, self._times, self._judge = handle, spec, times, judge
        self._timeout = handle.timeout + (makespan(handle.ledger.spans) or 0.0)
        #: Why nothing more is sent again, once that is so.
        self._over = ""

    def settle(self, first: Judged) -> Judged:
        """Return what becomes of a limit that was not kept."""
        instead: dict[tuple[str, str, int] | str, Range] = {}
        doubted, quiet = first, []
        for _ in range(MOST):
            try:
                found = self._measure(doubted, instead)
            except _UnlikeError as exc:
                return replace(doubted, again=str(exc))
            values = f"sent again alone it was {_shown(doubted.measure, found)}"
            if not self._keeps(doubted.measure, found[-1].value):
                return self._not_kept(doubted, found, instead)
            quiet.append((doubted, values))
            instead.update(found[-1].instead)
            doubted = self._anew(first.measure, instead)
            if doubted.verdict == "kept":
                return self._kept(first, doubted, quiet)
        more = f"of the executions above the limit {MOST} were sent again alone and kept it, and no more were"
        return replace(doubted, verdict="inconclusive", reason=more, detail="")

    def _anew(self, measure: str, instead: Instead) -> Judged:
        return next(each for each in self._judge(instead).judged if each.measure == measure)

    def _keeps(self, measure: str, value: Range) -> bool | None:
        """Whether a repetition kept the limit, ``None`` if it cannot be told."""
        limit = self._spec.limits[measure].value
        found = value.settled
        broken = found.falls_short(limit) if measure in LOWER_BOUNDS else found.exceeds(limit)
        return None if broken is None else not broken

    def _not_kept(self, doubted: Judged, found: Sequence[_Repetition], instead: Instead) -> Judged:
        times = "once" if len(found) == 1 else f"{len(found)} times"
        told = f"sent again alone {times}, it was {_shown(doubted.measure, found)}"
        if any(self._keeps(doubted.measure, value) is None for value, _ in found):
            return replace(doubted, again=f"{told}, which does not tell")
        if doubted.verdict == "inconclusive":
            # It fails now, and has to say with what: with the one in the middle.
            middle = sorted(found, key=lambda each: each.value.best)[len(found) // 2]
            doubted = self._anew(doubted.measure, {**instead, **middle.instead})
            if doubted.verdict != "broken":  # as a percentile it is decided by another execution
                return replace(doubted, again=told)
        return replace(doubted, verdict="confirmed", again=f"confirmed: {told}")

    def _kept(self, first: Judged, now: Judged, quiet: Sequence[tuple[Judged, str]]) -> Judged:
        """Return a limit that was kept by what ran again."""
        values = quiet[0][1] + (f", and {len(quiet) - 1} more executions kept the limit too" if quiet[1:] else "")
        reason = ""
        if first.measure == "memory":
            reason = f"{values}: it does not grow each time"
        elif any(self._shared(each) for each, _ in quiet):
            reason = f"{values}, but in the test others ran beside it in its process"
        if reason:
            return replace(first, verdict="inconclusive", nearest=now.nearest, reason=reason)
        return replace(first, verdict="noise", nearest=now.nearest, reason="", again=f"noise, {values}")

    def _shared(self, judged: Judged) -> bool:
        """Whether other tasks of the test were in the process of an execution while it was."""
        own = judged.span
        if judged.measure not in _IN_SLOT or own is None or own.started is None or own.ended is None:
            return False
        return any(
            other is not own
            and other.pid == own.pid
            and other.started is not None
            and other.started < own.ended
            and (other.ended is None or other.ended > own.started)
            for other in self._handle.ledger.spans
        )

    # -- repetitions

    def _measure(self, doubted: Judged, instead: Instead) -> list[_Repetition]:
        """Return repetitions up to the first that kept the limit.

        :raises _UnlikeError: there can be none.
        """
        found: list[_Repetition] = []
        while len(found) < self._times and not (found and self._keeps(doubted.measure, found[-1].value)):
            try:
                found.append(self._alone(doubted) if doubted.measure in _IN_SLOT else self._whole(doubted, instead))
            except _UnlikeError:
                if not found:
                    raise
                break
        return found

    def _alone(self, doubted: Judged) -> _Repetition:
        """Send the one task again that decides."""
        span = doubted.span
        assert span is not None  # of a measure in a slot there is one
        sent = [each for each in self._handle.sent if each.id == span.id]
        if not sent:
            raise _UnlikeError("it could not be sent again, since the test did not publish it itself")
        repeated, ids = self._send(sent)
        value = PER_SPAN[doubted.measure](_same(span, repeated, ids))
        if value is None:
            raise _UnlikeError("sent again alone it could not be measured")
        return _Repetition(value, {_key(doubted): value.settled})

    def _whole(self, doubted: Judged, instead: Instead) -> _Repetition:
        """Send all again that the test published: what each takes depends on the others."""
        measure, sent = doubted.measure, self._handle.sent
        if not sent or (doubted.span is not None and all(each.id != doubted.span.id for each in sent)):
            raise _UnlikeError("it could not be sent again, since the test did not publish it itself")
        before = self._handle.settled_memory() if measure == "memory" else None
        repeated, ids = self._send(list(sent))
        after = self._handle.settled_memory() if measure == "memory" else None
        own = spans_of(self._spec.tasks, self._handle.ledger.tasks.values())
        again = spans_of(self._spec.tasks, repeated.tasks.values())
        if Counter(map(_kind, own)) != Counter(map(_kind, again)):
            raise _UnlikeError("sent again not the same ran: what followed a task, its retries or its states differ")
        if measure in PER_SPAN:
            new: dict[tuple[str, str, int] | str, Range] = {
                (measure, span.id, span.retries): value.settled
                for span in own
                if span.id in ids and (value := PER_SPAN[measure](_same(span, repeated, ids))) is not None
            }
            now = self._anew(measure, {**instead, **new})
            if now.span is not None and now.span.id not in ids:
                raise _UnlikeError("it could not be sent again, since the test did not publish it itself")
            return _Repetition(now.range, new)
        grown = None if before is None or after is None else growth(before, after)
        value = (None if grown is None else Range(grown, grown)) if measure == "memory" else TOGETHER[measure](again)
        if value is None:
            raise _UnlikeError("sent again alone it could not be measured")
        return _Repetition(value, {measure: value.settled})

    def _send(self, publications: Sequence[Publication]) -> tuple[Ledger, Mapping[str, str]]:
        """Publish at the distances at which the test did: what it waited for in between belongs to a makespan.

        :returns: what ran, and each task's id in the test to its new one.
        """
        if self._over:
            raise _UnlikeError(self._over)
        with apart(self._handle) as repeated:
            begun, ids = time.monotonic(), {}
            for publication in publications:
                distance = publication.published - publications[0].published
                time.sleep(max(0.0, begun + distance - time.monotonic()))
                ids[publication.id] = send(self._handle, publication, countdown_of(publication))
            problem = wait(self._handle, self._timeout)
        if problem is not None:
            self._over = "nothing was sent again, since an earlier repetition did not end"
            raise _UnlikeError(f"it could not be measured again: {problem}")
        return repeated, ids


def _shown(measure: str, found: Iterable[_Repetition]) -> str:
    return ", ".join(shown_range(measure, value) for value, _ in found)


def _key(judged: Judged) -> tuple[str, str, int] | str:
    return judged.measure if judged.span is None else (judged.measure, judged.span.id, judged.span.retries)


def _kind(span: Span) -> tuple[str, int, str | None]:
    return span.task, span.retries, span.state


def _same(span: Span, repeated: Ledger, ids: Mapping[str, str]) -> Span:
    """Return the execution of a repetition that corresponds to one of the test.

    :raises _UnlikeError: it is none.
    """
    entry = repeated.tasks.get(ids[span.id])
    found = [] if entry is None else [each for each in entry.spans if _kind(each) == _kind(span)]
    if not found:
        ended = "not at all" if entry is None else f"as {entry.state}"
        raise _UnlikeError(f"sent again alone it did not do the same: it ended {ended}")
    return found[-1]
