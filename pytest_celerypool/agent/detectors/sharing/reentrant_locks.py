"""Locks of ``multiprocessing`` that a thread may take again, and under a green pool every task: all are in one thread.

``multiprocessing.RLock``, which is what ``Value.get_lock()`` gives, knows its owner by process and native thread
(``multiprocessing/synchronize.py``, ``SemLock.acquire`` in C); no library of a pool replaces it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.state.changes import name_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_KIND = "useless-lock"


class Holder(NamedTuple):
    """Who has a lock, and the line that took it."""

    run: Run
    place: str


class ReentrantLocks(Detector):
    """Sees a task enter such a lock while another one is inside."""

    mark = "reentrant-lock"
    kinds = (Kind(_KIND, "fail", "two tasks of a process hold at once a lock that does not tell them apart"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._holders: dict[int, list[Holder]] = {}

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether all tasks are in one thread."""
        return watch.pool.green

    def begin(self) -> None:
        """Watch the lock, if the application has imported it; billiard has one like it."""
        for name in ("multiprocessing.synchronize", "billiard.synchronize"):
            synchronize = sys.modules.get(name)
            if synchronize is not None:
                self.after(synchronize.SemLock, "__enter__", self._entered, in_task=True)
                self.before(synchronize.SemLock, "__exit__", self._left, in_task=True)

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Forget what the task held."""
        for identity, holders in list(self._holders.items()):
            holders[:] = [each for each in holders if each.run is not run]
            if not holders:
                self._holders.pop(identity, None)

    def _entered(self, _: Any, lock: Any, *__: Any) -> None:
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        if run is None or frame is None or lock._semlock.kind != 0:  # 0: one that may be taken again
            return
        run.marks[self.mark] = True
        place = self.watch.frames.place(frame)
        holders = self._holders.setdefault(id(lock), [])
        other = next((each for each in holders if each.run is not run and not each.run.over), None)
        holders.append(Holder(run, place))
        if other is not None:
            self._report(run, place, other)

    def _left(self, lock: Any, *_: Any) -> None:
        run = self.watch.current()
        holders = self._holders.get(id(lock), [])
        # Only the last time: it may have the lock more than once.
        last = next((each for each in reversed(holders) if each.run is run), None)
        if last is not None:
            holders.remove(last)
            if not holders:
                del self._holders[id(lock)]

    def _report(self, run: Run, place: str, other: Holder) -> None:
        pool = self.watch.pool.name
        self.watch.report(
            _KIND,
            run,
            f"the task entered a lock of multiprocessing while {name_of(other.run)} is inside: a thread may take it "
            f"again, and under {pool} all tasks are in one thread, so it excludes none of them",
            [place, f"taken before at {other.place}, by {name_of(other.run)}", f"in process {os.getpid()}"],
            "wait for nothing while you have it, or have a threading.Lock around it as well (the pool makes it "
            "cooperative)",
            others=[other.run],
        )
