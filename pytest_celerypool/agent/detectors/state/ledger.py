"""Follow changes of state that tasks share: who made each, who else ran meanwhile, whether it was put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors.state.changes import (
    CHANGED,
    MARK,
    Change,
    Closed,
    Doings,
    Subject,
    cpu_of,
    name_of,
    report_left,
    same,
)

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: Seconds of processor time: a thread that used less may have been woken without having run any Python.
_WOKEN_S = 20e-6

#: Seconds after which a thread that wants to run has run: other threads ask for the interpreter every 5 ms.
_LONG_S = 0.01

#: What a run has set a subject to that it has put back: it does not mind what comes next.
_RELEASED: Any = object()


#: Of so many subjects the ledger remembers what they were set to.
_MOST = 1000


class Ledger:
    """All changes in this process that are not put back, and the judgement of them.

    :param watch: the worker as detectors see it.
    :param changing: called when the first change in this process is noted.
    :ivar calm: whether no task has changed anything: then starts and ends of tasks need not be noted.
    """

    def __init__(self, watch: Watch, changing: Callable[[], None] = lambda: None) -> None:
        self._watch = watch
        self._changing = changing
        self._green = watch.pool.green
        self.clear()

    def clear(self) -> None:
        """Forget everything: this is a new process."""
        self.calm = True
        #: Changes whose run still runs, or beside which others still run.
        self.active: dict[Hashable, list[Change]] = {}
        self._left: list[Change] = []
        self._closed: list[Closed] = []
        self._values: dict[Hashable, tuple[int, str]] = {}
        self._varied: set[Hashable] = set()

    # -- events

    def changed(self, subject: Subject, old: Any, new: Any, run: Run | None, frame: FrameType | None) -> None:
        """Note that a subject was set.

        :param run: the run that did it, ``None`` if nobody of interest did.
        :param frame: the user's line.
        """
        for change in self.active.get(subject.key, ()):
            if change.run is not run and (run is None or self._shares(subject)):
                change.gone = not same(new, change.value)
        if run is None:
            for change in list(self.active.get(subject.key, ())):
                if same(new, change.original):
                    self._drop(change)
            return
        doings: Doings = run.marks.get(MARK) or run.marks.setdefault(MARK, Doings())
        now = time.monotonic()
        before, known = doings.sets.get(subject.common), doings.changes.get(subject.key)
        if before is not None and known is not None and not same(new, known.original):
            self._set_again(subject, run, doings)
        doings.sets[subject.common] = (new, now)
        self._closed = [each for each in self._closed if not each.spares(subject, run)]
        if known is not None:
            if same(new, known.original):
                self._put_back(known, doings)
            else:
                known.value = new
        elif same(old, new):
            if before is not None and same(before[0], new):  # what it was anyway is put back: its turn is over
                doings.sets[subject.common] = (_RELEASED, now)
        else:
            self._compare(subject, new, run)
            change = Change(subject, run, old, new, now, self._watch.frames.stack(frame, 4))
            change.spared = {other.id for other in self._watch.running() if other.over}
            if self._shares(subject):
                change.clocks = {
                    other.id: cpu_of(other)
                    for other in self._watch.running()
                    if other is not run and other.thread is not None
                }
            doings.changes[subject.key] = change
            self.active.setdefault(subject.key, []).append(change)
            if self.calm:
                self.calm = False
                self._changing()

    def read(self, run: Run, keys: Iterable[Hashable]) -> None:
        """Note that a run reads subjects of which some may be changed by others."""
        for key in keys:
            if any(change.run is not run for change in self.active.get(key, ())):
                doings: Doings = run.marks.get(MARK) or run.marks.setdefault(MARK, Doings())
                doings.reads[key] = time.monotonic()

    def started(self, run: Run) -> None:
        """Note that a run begins."""
        if self._left:
            heirs, self._left = self._left, []
            run.marks.setdefault(MARK, Doings()).heir_of = heirs
        if self.active:
            for changes in list(self.active.values()):
                for change in changes:
                    if not change.left and self._shares(change.subject):
                        change.ran[run.id] = run

    def ended(self, run: Run) -> None:
        """Judge what a run leaves, and what it has run beside."""
        doings: Doings | None = run.marks.get(MARK)
        if self.active:
            for changes in list(self.active.values()):
                for change in list(changes):
                    if change.run is not run:
                        self._ran_beside(change, run, doings)
        for closed in list(self._closed) if self._closed else ():
            if closed.exposed.pop(run.id, None) is not None:
                self.report_changed(closed.change, [run], closed.end)
            if not closed.exposed:
                self._closed.remove(closed)
        if doings is not None:
            for change in list(doings.changes.values()):
                self._leave(change)
            for change in doings.heir_of:
                if change.subject.common not in doings.sets:
                    self.report_left(change, run)

    def flush(self) -> None:
        """Report what waits for runs that go on: nothing more will be seen."""
        for closed in self._closed:
            self.report_changed(closed.change, closed.exposed.values(), closed.end)
        self._closed = []
        for changes in list(self.active.values()):
            for change in list(changes):
                if change.left:
                    self._drop(change)
                    self.report_left(change)

    # -- judgement

    def _set_again(self, subject: Subject, run: Run, doings: Doings) -> None:
        """A run is about to set what it has set before, maybe to what it takes for the value of all.

        What others have set since hurt it while it had a value of its own.
        """
        for change in list(self.active.get(subject.key, ())) if self._shares(subject) else ():
            if change.run is not run and self._struck(change, run, doings):
                self.report_changed(change, [run], "not put back when that task set it again")

    def _shares(self, subject: Subject) -> bool:
        return subject.scope == "process" or (subject.scope == "thread" and self._green)

    def _compare(self, subject: Subject, new: Any, run: Run) -> None:
        """Remember whether different runs set a subject to different values: then it is nobody's initialisation."""
        try:
            value = hash(new)
        except TypeError:
            return
        known = self._values.setdefault(subject.key, (value, run.id))
        if known[0] != value and known[1] != run.id:
            self._varied.add(subject.key)
        if len(self._values) > _MOST:
            self._values.clear()
            self._varied.clear()

    def _drop(self, change: Change) -> None:
        changes = self.active.get(change.subject.key, [])
        if change in changes:
            changes.remove(change)
        if not changes:
            self.active.pop(change.subject.key, None)
        doings = change.run.marks.get(MARK)
        if doings is not None and doings.changes.get(change.subject.key) is change:
            del doings.changes[change.subject.key]

    def _ran_since(self, run: Run, change: Change) -> bool:
        """Whether a run that runs, or ends just now, has run code of its own since a change was made."""
        if run.id in change.ran:
            return True
        if run.id in change.spared:
            return False
        if self._green:
            return bool(run.since > change.since)  # type: ignore[attr-defined]
        before = change.clocks.get(run.id)
        if before is None:
            return False
        used = cpu_of(run) - before
        lasted = time.monotonic() - change.since
        return used > _WOKEN_S or (used > _WOKEN_S / 4 and lasted > _LONG_S)

    def _beside(self, change: Change) -> list[Run]:
        """Return the runs that have run since a change was made, its own left out."""
        if not self._shares(change.subject):
            return []
        found = {run.id: run for run in self._watch.running() if run is not change.run and self._ran_since(run, change)}
        return list({**change.ran, **found}.values())

    def _struck(self, change: Change, run: Run, doings: Doings | None) -> bool:
        """Whether a change that stays is sure to hurt a run that ran since."""
        subject = change.subject
        own = None if doings is None else doings.sets.get(subject.common)
        if own is not None:
            # It set the same subject for itself before, to something else, and then went on.
            return own[0] is not _RELEASED and own[1] < change.since and not same(own[0], change.value)
        if subject.grade == "strict":
            return True
        return subject.grade != "own" and subject.key in self._varied and self._minds(change, run)

    def _put_back(self, change: Change, doings: Doings) -> None:
        """A run puts back what it changed.

        Who has set the same for itself meanwhile is hurt. Who has not may yet do so, after it has waited for its turn:
        the program has a lock then, and the task does not mind what was before.
        """
        del doings.changes[change.subject.key]
        doings.sets[change.subject.common] = (_RELEASED, time.monotonic())
        self._drop(change)
        beside = self._beside(change)
        end = f"put back after {time.monotonic() - change.since:.3f} s"
        running = {run.id for run in self._watch.running()}
        hurt, exposed = [], {}
        for run in beside:
            if self._has_own(change, run):
                hurt.append(run)
            elif self._minds(change, run) and not self._has_set(change, run):
                if run.id in running:
                    exposed[run.id] = run
                else:
                    hurt.append(run)
        if hurt:
            self.report_changed(change, hurt, end)
        elif exposed:
            self._closed.append(Closed(change, exposed, end))

    @staticmethod
    def _minds(change: Change, run: Run) -> bool:
        """Whether a change minds a run that ran since and has set nothing itself."""
        grade = change.subject.grade
        if grade == "read":
            doings: Doings | None = run.marks.get(MARK)
            return doings is not None and doings.reads.get(change.subject.key, 0.0) >= change.since
        return grade != "own"

    @staticmethod
    def _has_set(change: Change, run: Run) -> bool:
        doings: Doings | None = run.marks.get(MARK)
        return doings is not None and change.subject.common in doings.sets

    def _has_own(self, change: Change, run: Run) -> bool:
        """Whether a run has a change of its own that stands, or has set the same since."""
        doings: Doings | None = run.marks.get(MARK)
        if doings is None:
            return False
        if any(other.subject.common == change.subject.common for other in doings.changes.values()):
            return True
        own = doings.sets.get(change.subject.common)
        return own is not None and own[1] >= change.since

    def _leave(self, change: Change) -> None:
        """A run ends without having put a change back."""
        change.left = True
        struck = [run for run in self._beside(change) if self._struck(change, run, run.marks.get(MARK))]
        if struck:
            self._drop(change)
            self.report_changed(change, struck, "never put back")
            return
        if self._shares(change.subject):
            change.waiting = {run.id for run in self._watch.running() if run is not change.run}
        if not change.waiting:
            self._drop(change)
            self.report_left(change)
            if self._shares(change.subject):
                self._left.append(change)

    def _ran_beside(self, change: Change, run: Run, doings: Doings | None) -> None:
        """A run ends while a change of another one stands."""
        if not self._shares(change.subject):
            return
        ran = self._ran_since(run, change)
        if ran:
            change.ran[run.id] = run
            if self._struck(change, run, doings):
                self.report_changed(change, [run], "not put back when that task ended")
                if change.left:
                    self._drop(change)
                return
        if change.left:
            change.waiting.discard(run.id)
            if not change.waiting:
                self._drop(change)
                self.report_left(change)

    # -- reports

    def report_changed(self, change: Change, others: Iterable[Run], end: str) -> None:
        """Report that a change hurt others.

        :param end: how long it stood, in words.
        """
        others = list(others)
        old, new = change.texts
        names = _names(others)
        who = "greenlets of one process share it" if self._green else "threads of one process share it"
        self._watch.report(
            CHANGED.name,
            change.run,
            f"changed {change.subject.label} from {old} to {new} while {names} ran in the same process; "
            f"{who}, so each task sees the last value written by any",
            [
                *change.stack,
                f"{change.subject.label}: {old} -> {new}, {end}",
                f"by {name_of(change.run)}",
                *(f"{name_of(other)} {self._did(change, other)}" for other in others[:4]),
            ],
            change.subject.remedy,
            others=others,
        )

    @staticmethod
    def _did(change: Change, other: Run) -> str:
        doings: Doings | None = other.marks.get(MARK)
        if doings is not None and doings.reads.get(change.subject.key, 0.0) >= change.since:
            return "read it meanwhile"
        return "ran meanwhile"

    def report_left(self, change: Change, heir: Run | None = None) -> None:
        """Report that a change was left.

        :param heir: a run that began with it.
        """
        if change.gone:
            return
        if change.subject.scope == "slot" and self._green:  # every greenlet has a fresh one
            return
        old, new = change.texts
        report_left(self._watch, change.run, change.subject, old, new, change.stack, heir)


def _names(runs: list[Run]) -> str:
    if len(runs) <= 2:
        return " and ".join(name_of(run) for run in runs)
    return f"{name_of(runs[0])} and {len(runs) - 1} others"
