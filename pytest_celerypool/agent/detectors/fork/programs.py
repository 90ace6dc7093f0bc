"""Programs started before the fork: all children of a prefork pool ask them through the same two pipes.

Nor can a child wait for one, or ask whether it runs: that is for its parent alone (``waitpid(2)``, ECHILD), and
``subprocess`` takes it for an end with status 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.fork.bound import BOUND
from pytest_celerypool.agent.detectors.fork.connections import SHARED, Inherited, holders_of, is_same
from pytest_celerypool.agent.detectors.holders import Reached, made_at, walk
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

#: Methods by which an answer is read; of a file made in C each object can have its own.
_READS = ("read", "read1", "readinto", "readline", "readlines")


_MARK = "program"


class Programs(Detector):
    """Sees a task read from the pipe of a program that the user's module started before the fork.

    Writing to one is no finding: a program that is only sent lines mixes up nothing.
    """

    kinds: ClassVar[Sequence[Kind]] = (SHARED, BOUND)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        #: Those whose end nobody has heard of, by their numbers.
        self._running: dict[int, Reached] = {}
        self._replaced: list[tuple[Any, str]] = []
        self._seen: set[int] = set()

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def forked(self) -> None:
        """Look what programs this new child has from its parent."""
        self._seen = set()
        self._running = {}
        for reached in walk(self.watch.frames, lambda value: issubclass(type(value), subprocess.Popen)):
            if reached.value.returncode is None:
                self._running[id(reached.value)] = reached
            pipe = reached.value.stdout
            if pipe is not None and not pipe.closed and reached.value.stdin is not None:
                inode = os.fstat(pipe.fileno()).st_ino
                self._watch(pipe, reached, Inherited(pipe.fileno(), inode, f"to the program {reached.path}"))

        if self._running:
            self.after(subprocess.Popen, "poll", self._asked)
            self.after(subprocess.Popen, "wait", self._asked)

    def remove(self) -> None:
        """End."""
        for pipe, name in self._replaced:
            vars(pipe).pop(name, None)
        self._replaced.clear()
        super().remove()

    def _asked(self, status: int | None, program: Any, *_: Any, **__: Any) -> None:
        """A child has asked how a program ended, or whether it has."""
        run = self.watch.current()
        reached = self._running.get(id(program)) if run is not None and status is not None else None
        if reached is None:
            return
        del self._running[id(program)]
        frames = self.watch.frames
        frame = frames.user_frame(sys._getframe())
        self.watch.report(
            BOUND.name,
            run,
            f"child {os.getpid()} asks about a program that its parent has started, and is told that it ended with "
            f"status {status}: under prefork no child can know, and subprocess says 0 whether it runs or not",
            [
                frames.place(frame),
                *(f"  called from {line}" for line in frames.stack(frame)[1:]),
                f"{reached.path}, process {program.pid}, started by {family.main_pid()} (the parent)",
                *made_at(frames, reached),
            ],
            "start the program in each child: on first use, or in a receiver of worker_process_init",
            key=reached.path,
        )

    def _watch(self, pipe: Any, reached: Reached, inherited: Inherited) -> None:
        used = self.watch.guarded(self, self._used)
        for name in _READS:
            original = getattr(pipe, name, None)
            if original is not None and name not in vars(pipe):
                setattr(pipe, name, _before(used, original, reached, inherited))
                self._replaced.append((pipe, name))

    def _used(self, reached: Reached, inherited: Inherited) -> None:
        run = self.watch.current()
        if run is None or inherited.inode in self._seen or _MARK in run.marks or not is_same(inherited):
            return
        run.marks[_MARK] = True  # looking who has the pipe takes a while: once for each task
        children = [pid for pid in holders_of(f"pipe:[{inherited.inode}]") if pid != family.main_pid()]
        frames = self.watch.frames
        frame = frames.user_frame(sys._getframe())
        if frame is None or not children:
            return
        self._seen.add(inherited.inode)
        self.watch.report(
            "shared-connection",
            run,
            f"child {os.getpid()} reads an answer of a program that was started before the fork, and so may "
            f"{len(children)} other {'child' if len(children) == 1 else 'children'}: under prefork each may get the "
            "answer to what another asked, or half of it",
            [
                frames.place(frame),
                *(f"  called from {line}" for line in frames.stack(frame)[1:]),
                f"{reached.path}, process {reached.value.pid}, started by {family.main_pid()} (the parent)",
                *made_at(frames, reached),
                f"pipe inode {inherited.inode}, descriptor {inherited.fd}, open in the processes {os.getpid()} (this "
                f"child), {', '.join(map(str, children))}",
            ],
            "start the program in each child: on first use, or in a receiver of worker_process_init",
            key=reached.path,
        )


def _before(used: Any, original: Any, reached: Reached, inherited: Inherited) -> Any:
    def read(*args: Any, **kwargs: Any) -> Any:
        used(reached, inherited)
        return original(*args, **kwargs)

    return read
