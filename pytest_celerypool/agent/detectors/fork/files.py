"""Files that the children of a prefork pool inherit, with the one position and the one lock that each has."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.fork.connections import Inherited, descriptors, is_same
from pytest_celerypool.agent.detectors.holders import Reached, made_at, user_threads, uses, walk
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: What nobody reads or writes by position: files of the system's, and the memory that :mod:`multiprocessing.heap` and
#: billiard share with children, which is mapped.
_NOT_BY_POSITION = re.compile(r"/(proc|sys)/|.*/pym-\d+-\w+ \(deleted\)$")

#: Shared with the other detectors of files from before the fork.
KIND = Kind("shared-file", "fail", "tasks move the position, or rely on the lock, of a file opened before the fork")


class Files(Detector):
    """Sees tasks that move the position of a file from before the fork, or lock such a file, which excludes nobody."""

    kinds: ClassVar[Sequence[Kind]] = (KIND,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._regular: dict[int, Inherited] = {}
        self._moving: dict[int, Inherited] = {}
        self._writes: dict[int, bool] = {}
        self._reported: set[int] = set()
        self._parent_works = False
        self.rest("started", "ended")

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def begin(self) -> None:
        """See every fork beforehand."""
        from billiard import popen_fork

        self.before(popen_fork.Popen, "_launch", self._about_to_fork)

    def _about_to_fork(self, *_: Any) -> None:
        # A thread of the user's in the parent may be the one that moves the position.
        self._parent_works = bool(user_threads(self.watch.frames))

    def forked(self) -> None:
        """Look what files there are in this new child."""
        import fcntl

        self._regular, self._moving, self._writes = {}, {}, {}
        found = dict(descriptors())
        streams = {(found[fd].st_dev, found[fd].st_ino) for fd in (0, 1, 2) if fd in found}
        for fd, status in found.items():
            # The standard streams, a test's capture of them included, are everybody's.
            if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) in streams:
                continue
            path = path_of(fd)
            if _NOT_BY_POSITION.match(path):
                continue
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            inherited = self._regular[fd] = Inherited(fd, status.st_ino, path)
            if not flags & os.O_APPEND:
                self._moving[fd] = inherited
                self._writes[fd] = flags & os.O_ACCMODE == os.O_WRONLY
        if self._regular:
            self.before(fcntl, "flock", self._locked)
        if self._moving and not self._parent_works:
            self.listen("started", "ended")

    def started(self, run: Run) -> None:
        """Note the positions."""
        run.marks["shared-file"] = self._positions()

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Compare them."""
        before = run.marks.get("shared-file", {})
        for fd, (position, size) in self._positions().items():
            earlier, smaller = before.get(fd, (position, size))
            if position == earlier or fd in self._reported:
                continue
            if position == size and (self._writes[fd] or size - smaller == position - earlier):
                continue  # written at its end: a shared position is what keeps the children's lines apart
            self._report_position(run, self._moving[fd], earlier, position)

    def _positions(self) -> dict[int, tuple[int, int]]:
        """Return position and size of each file."""
        positions = {}
        for fd, inherited in list(self._moving.items()):
            try:
                status = os.fstat(fd)
            except OSError:
                status = None
            if status is not None and status.st_ino == inherited.inode:
                positions[fd] = os.lseek(fd, 0, os.SEEK_CUR), status.st_size
            else:
                del self._moving[fd]
        return positions

    def _report_position(self, run: Run, file: Inherited, before: int, after: int) -> None:
        self._reported.add(file.fd)
        lines, made = self._lines(run, file.fd)
        self.watch.report(
            "shared-file",
            run,
            f"the task moved the position of {file.text} from {before} to {after}; the file was opened before the "
            "fork, so under prefork all children have one position: each reads and writes where another has left it",
            [
                *(lines or made or ["(no line of the task's own mentions it)"]),
                *(made if lines else []),
                f"descriptor {file.fd}, inode {file.inode}, position {before} before the task and {after} after it, "
                f"in child {os.getpid()} of {family.main_pid()}",
            ],
            "open the file in the task, or in a receiver of worker_process_init; os.pread() needs no position",
            key=file.text,
        )

    def _lines(self, run: Run, fd: int) -> tuple[list[str], list[str]]:
        """Return the lines that use a file, and the one that opened it."""
        frames = self.watch.frames
        for reached in walk(frames, lambda value: issubclass(type(value), io.IOBase)):
            if _number(reached) == fd:
                return uses(frames, reached, getattr(run.task, "run", None)), made_at(frames, reached)
        return [], []

    # -- locks

    def _locked(self, file: Any, operation: int) -> None:
        import fcntl

        run = self.watch.current()
        if run is None or not operation & (fcntl.LOCK_EX | fcntl.LOCK_SH):
            return
        fd = file if isinstance(file, int) else file.fileno()
        inherited = self._regular.get(fd)
        if inherited is None or fd in self._reported or not is_same(inherited):
            return
        frames = self.watch.frames
        frame = frames.user_frame(sys._getframe())
        if frame is None:
            return
        self._reported.add(fd)
        self.watch.report(
            "shared-file",
            run,
            f"the task locks {inherited.text} by flock(), but the file was opened before the fork: such a lock is the "
            "open file's, which all children share, so under prefork it excludes none of them",
            [
                frames.place(frame),
                *(f"  called from {line}" for line in frames.stack(frame)[1:]),
                *self._lines(run, fd)[1],
                f"descriptor {fd}, inode {inherited.inode}, in child {os.getpid()} of {family.main_pid()}",
            ],
            "open the file for each lock, in the task",
            key=f"flock {inherited.text}",
        )


def _number(reached: Reached) -> int:
    try:
        return int(reached.value.fileno())
    except (OSError, ValueError, io.UnsupportedOperation):  # closed, or no file of the system's
        return -1


def path_of(fd: int) -> str:
    """Return the path of an open file, or what stands for it where the system does not tell."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"the file of descriptor {fd}"
