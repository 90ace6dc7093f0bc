"""Locks of files that exclude no other task of the same process.

A lock of ``lockf`` belongs to the process, and one of ``flock`` to the open file (``fcntl(2)``, ``flock(2)``): a second
task of the process that asks for it has it at once.
"""

from __future__ import annotations

import io
import os
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.fork.files import path_of
from pytest_celerypool.agent.detectors.state.changes import name_of
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.watch import Watch

_KIND = "useless-lock"


class Held(NamedTuple):
    """A lock that a task has.

    :ivar end: the first byte behind it.
    :ivar closed: whether the file has been closed since, and the lock gone with it.
    """

    run: Run
    fd: int
    place: str
    exclusive: bool
    start: int
    end: float
    closed: Callable[[], bool]

    def excludes(self, other: Held) -> bool:
        """Whether only one of the two should be held at a time."""
        return (
            self.run is not other.run
            and (self.exclusive or other.exclusive)
            and self.start < other.end
            and other.start < self.end
        )


class FileLocks(Detector):
    """Sees two tasks of a process hold at once what only one may hold."""

    mark = _KIND
    kinds = (Kind(_KIND, "fail", "two tasks of a process hold at once a lock that does not tell them apart"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        #: What is locked, with who holds it: an inode, and for ``flock`` the descriptor too.
        self._held: dict[tuple[int, ...], list[Held]] = {}

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where tasks share a process at the same time."""
        return watch.pool.overlaps

    def install(self) -> None:
        """Hear of every lock, and of descriptors that are closed by their number."""
        import fcntl

        self.after(fcntl, "lockf", self._lockf, in_task=True)
        self.after(fcntl, "flock", self._flock, in_task=True)
        if hasattr(os, "lockf"):
            self.after(os, "lockf", self._os_lockf, in_task=True)
        self.before(os, "close", self._close, in_task=True)

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Forget what the task held."""
        self._drop(lambda held: held.run is run)

    def _lockf(self, _: Any, file: Any, operation: int, length: int = 0, start: int = 0, whence: int = 0) -> None:
        if whence == os.SEEK_SET:
            status = os.fstat(_number(file))
            end = start + length if length else float("inf")
            self._changed((status.st_dev, status.st_ino), file, operation, start, end)

    def _os_lockf(self, _: Any, fd: int, command: int, length: int) -> None:
        import fcntl

        operation = {os.F_LOCK: fcntl.LOCK_EX, os.F_TLOCK: fcntl.LOCK_EX, os.F_ULOCK: fcntl.LOCK_UN}.get(command)
        if operation is not None:
            position, status = os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd)
            start, end = sorted((position, position + length if length else float("inf")))
            self._changed((status.st_dev, status.st_ino), fd, operation, int(start), end)

    def _flock(self, _: Any, file: Any, operation: int) -> None:
        status = os.fstat(_number(file))
        self._changed((status.st_dev, status.st_ino, _number(file)), file, operation, 0, float("inf"))

    def _close(self, fd: Any) -> None:
        if self._held:
            self._drop(lambda held: held.fd == fd)

    def _changed(self, key: tuple[int, ...], file: Any, operation: int, start: int, end: float) -> None:
        """A lock was taken or given back; it is gone then, whoever took it."""
        import fcntl

        if operation & (fcntl.LOCK_EX | fcntl.LOCK_SH):
            self._taken(key, file, start, end, exclusive=bool(operation & fcntl.LOCK_EX))
        else:
            self._drop(lambda held: held.start < end and start < held.end, key)

    def _drop(self, gone: Callable[[Held], bool], only: tuple[int, ...] | None = None) -> None:
        for key, holders in list(self._held.items()):
            if only is None or key == only:
                holders[:] = [held for held in holders if not gone(held)]
                if not holders:
                    self._held.pop(key, None)

    def _taken(self, key: tuple[int, ...], file: Any, start: int, end: float, *, exclusive: bool) -> None:
        run = self.watch.current()
        frame = self.watch.frames.user_frame(sys._getframe())
        if run is None or frame is None:
            return
        fd = _number(file)
        closed = _closed(_file_of(fd, frame) or file, fd, key)
        mine = Held(run, fd, self.watch.frames.place(frame), exclusive, start, end, closed)
        run.marks[self.mark] = True
        holders = self._held.setdefault(key, [])
        for other in list(holders):
            if not other.run.over and not other.closed() and mine.excludes(other):
                self._report(mine, other, of_process=len(key) == 2)
                break
        holders[:] = [*(held for held in holders if held.run is not run), mine]

    def _report(self, mine: Held, other: Held, *, of_process: bool) -> None:
        how = "lockf()" if of_process else "flock()"
        whose = "the process's" if of_process else "that of the open file, which both tasks use"
        path, pool = path_of(mine.fd), self.watch.pool.name
        self.watch.report(
            _KIND,
            mine.run,
            f"the task got the lock of {os.path.basename(path)} by {how} while {name_of(other.run)} has it: such a "
            f"lock is {whose}, and {pool} runs tasks of one process at once, so it excludes none of them",
            [
                mine.place,
                f"taken before at {other.place}, by {name_of(other.run)}, and not given back",
                f"path {path}, descriptors {other.fd} and {mine.fd} of process {os.getpid()}",
            ],
            "have a threading.Lock around it as well (under a green pool it is cooperative); or flock() on a file that "
            "each task opens, with LOCK_NB and time.sleep() in between",
            others=[other.run],
        )


def _number(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


def _file_of(fd: int, frame: FrameType) -> Any:
    """Return the file object with a descriptor that a function has in a local name: the number is soon another's."""
    for value in frame.f_locals.values():
        if issubclass(type(value), io.IOBase) and not value.closed:
            try:
                if value.fileno() == fd:
                    return value
            except OSError:  # it has none
                continue
    return None


def _closed(file: Any, fd: int, key: tuple[int, ...]) -> Callable[[], bool]:
    """Return what tells whether a file has been closed since; of a number only that it is another file now."""
    if not isinstance(file, int):
        reference = weakref.ref(file)
        return lambda: (held := reference()) is None or bool(getattr(held, "closed", False))

    def other() -> bool:
        try:
            status = os.fstat(fd)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != key[:2]

    return other
