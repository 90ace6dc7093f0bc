"""What was written to a file before the fork and not to the disk: every child has it in a buffer of its own."""

from __future__ import annotations

import gc
import io
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.fork.connections import descriptors
from pytest_celerypool.agent.detectors.fork.files import KIND, path_of
from pytest_celerypool.agent.detectors.holders import Reached, made_at, uses, walk
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: The descriptors up to this one are the standard streams.
_LAST_STREAM = 2

_BUFFERED = (io.BufferedWriter, io.BufferedRandom)


class Pending(NamedTuple):
    """A file of the user's with something that is not on the disk yet.

    :ivar size: characters or bytes of it.
    """

    reached: Reached
    size: int


class Buffers(Detector):
    """Sees a task in a child write what the parent had written."""

    kinds: ClassVar[Sequence[Kind]] = (KIND,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._pending: list[Pending] = []
        self.rest("ended")

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def forked(self) -> None:
        """Look what this new child has inherited."""
        if not self._inherits():
            return
        files = walk(self.watch.frames, lambda value: type(value) in (io.TextIOWrapper, *_BUFFERED))
        found = (Pending(reached, pending(reached.value)) for reached in files)
        self._pending = [each for each in found if each.size]
        if self._pending:
            self.listen("ended")

    def _inherits(self) -> bool:
        """Whether there is a file to write that is not the agent's: most projects have none, and a walk takes long."""
        import fcntl

        return any(
            fd > _LAST_STREAM
            and stat.S_ISREG(status.st_mode)
            and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            and not path_of(fd).startswith(self.watch.folder + os.sep)
            for fd, status in descriptors()
        )

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look what the task has had written of it."""
        for each in list(self._pending):
            if pending(each.reached.value) < each.size:
                self._pending.remove(each)
                self._report(run, each)

    def _report(self, run: Run, file: Pending) -> None:
        frames, name = self.watch.frames, file.reached.path
        self.watch.report(
            "shared-file",
            run,
            f"{file.size} characters that the parent had written to {name} were still in its buffer at the fork, and "
            "this task has had them written to the disk: under prefork every child has a copy of the buffer, and so "
            "has the parent, and each of them writes it",
            [
                *(uses(frames, file.reached, getattr(run.task, "run", None)) or [frames.place(None)]),
                *made_at(frames, file.reached),
                f"in child {os.getpid()} of {family.main_pid()}",
            ],
            "flush the file before the worker forks, or open it in the task",
            key=f"buffer {name}",
        )


def pending(file: Any) -> int:
    """Return how many characters or bytes have been written to a file and are in its buffer, without moving them.

    What a text file holds back is shown to the garbage collector alone: ``tell()`` would write it
    (``textiowrapper_traverse`` in CPython's Modules/_io/textio.c).
    """
    try:
        if isinstance(file, io.TextIOWrapper):
            if file.closed or not file.writable():
                return 0
            return _held_back(file) + pending(file.buffer)
        raw = file.raw.tell() if isinstance(file, _BUFFERED) and not file.closed else None
        return 0 if raw is None else max(0, file.tell() - raw)
    except (OSError, ValueError):  # a pipe has no position; closed meanwhile
        return 0


def _held_back(file: io.TextIOWrapper) -> int:
    known = {file.encoding, file.errors, "", "\n", "\r", "\r\n"}
    held = gc.get_referents(file)
    several = [text for each in held if type(each) is list for text in each]
    return sum(map(len, (*several, *(each for each in held if type(each) in (bytes, str) and each not in known))))
