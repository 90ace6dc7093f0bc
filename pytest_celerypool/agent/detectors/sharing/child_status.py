"""Tasks that wait for any child process, or end all of them: all tasks of a process have the same children.

``os.wait()`` takes the exit status of whichever child ends first; who started it and waits for it finds none any more.
Who asks ``psutil`` or ``multiprocessing`` for the children of its process, to end what it has left, ends those that
other tasks wait for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.state.changes import name_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_KIND = "foreign-child"

#: Among the marks of a run that has asked for all children of its process.
_ASKED = "asked-for-children"

#: Of ``os.waitpid``: any child.
_ANY = (-1, 0)


class Started(NamedTuple):
    """A child process that a task has started, and the line that did it."""

    run: Run
    place: str


class ChildStatus(Detector):
    """Compares who has started a child with who takes its exit status."""

    mark = _KIND
    kinds = (Kind(_KIND, "fail", "a task took the exit status of a process of another task, or ended it"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._started: dict[int, Started] = {}
        #: What tells of all children: modules, and their functions.
        self._tellers = {"psutil": "Process.children", "multiprocessing": "active_children"}

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where tasks share a process at the same time."""
        return watch.pool.overlaps

    def install(self) -> None:
        """Hear of every child, and of who waits for any."""
        self.after(subprocess.Popen, "__init__", lambda _, popen, *__, **___: self._start(popen.pid), in_task=True)
        for name in ("fork", "posix_spawn", "posix_spawnp"):
            self.after(os, name, lambda pid, *_, **__: self._start(pid), in_task=True)
        for name in ("wait", "wait3"):
            self.after(os, name, lambda result, *_: self._took(result[0]), in_task=True)
        self.after(os, "waitpid", self._waited, in_task=True)
        if hasattr(os, "waitid"):  # macOS has none
            self.after(os, "waitid", self._waited_id, in_task=True)
        for name in ("kill", "killpg"):
            self.before(os, name, self._killed, in_task=True)

    def imported(self) -> None:
        """Hear of who asks for all children, once a module is there that knows them."""
        for module in self._tellers.keys() & sys.modules.keys():
            owner: Any = sys.modules[module]
            *path, name = self._tellers.pop(module).split(".")
            for part in path:
                owner = getattr(owner, part)
            self.after(owner, name, lambda *_, **__: self._asked(), in_task=True)

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Forget what the task has started."""
        for pid, started in list(self._started.items()):
            if started.run is run:
                self._started.pop(pid, None)

    def _start(self, pid: int | None) -> None:
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        if pid and run is not None and frame is not None:
            run.marks[self.mark] = True
            self._started[pid] = Started(run, self.watch.frames.place(frame))

    def _waited(self, result: tuple[int, int], pid: int, _options: int) -> None:
        if pid in _ANY:
            self._took(result[0])

    def _waited_id(self, result: Any, kind: int, _number: int, options: int) -> None:
        if result is not None and kind != os.P_PID and not options & os.WNOWAIT:
            self._took(result.si_pid)

    def _took(self, pid: int) -> None:
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        started = self._started.get(pid)
        if not pid or run is None or frame is None:
            return
        if started is not None and started.run is run:
            del self._started[pid]
            return
        if started is not None:
            whose = f"one that {name_of(started.run)} has started, which will never learn of it"
            evidence = f"process {pid} was started at {started.place}, by {name_of(started.run)}"
        else:
            own = [f"{number} at {each.place}" for number, each in self._started.items() if each.run is run]
            if not own:  # it may have started one in a way that is not seen
                return
            whose = "one that it has not started"
            evidence = f"got process {pid}; it has started {', '.join(own)}"
        self.watch.report(
            _KIND,
            run,
            f"it waited for any child process and got the exit status of {whose}: under {self.watch.pool.name} all "
            "tasks of a process have the same children",
            [*self.watch.frames.stack(frame), evidence],
            "wait for the one that the task has started: process.wait(), communicate(), os.waitpid(pid, 0)",
            others=[] if started is None else [started.run],
        )

    def _asked(self) -> None:
        run = self.watch.current()
        if run is not None:
            run.marks[_ASKED] = True

    def _killed(self, pid: int, number: int) -> None:
        """Tell of a signal to the child of another task; who was told its number by that may mean it."""
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        started = self._started.get(pid)
        if run is None or frame is None or not number or started is None or _ASKED not in run.marks:
            return
        if started.run is run or not any(each is started.run for each in self.watch.running()):
            return
        self.watch.report(
            _KIND,
            run,
            f"it asked for all children of its process and sent signal {int(number)} to one that "
            f"{name_of(started.run)} has started and waits for: under {self.watch.pool.name} all tasks of a process "
            "have the same children",
            [
                *self.watch.frames.stack(frame),
                f"process {pid} was started at {started.place}, by {name_of(started.run)}",
            ],
            "end what the task has started: process.kill(), or os.killpg() of a session of its own "
            "(start_new_session=True)",
            others=[started.run],
        )
