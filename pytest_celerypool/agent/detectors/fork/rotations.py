"""Log files that one child of a prefork pool renames while the others go on writing to them.

``RotatingFileHandler`` and ``TimedRotatingFileHandler`` rename the file and open a new one in their own process.
Whoever else has the file open writes to the renamed one, until he renames it in his turn: "logging to a single file
from multiple processes is not supported" (https://docs.python.org/3/howto/logging-cookbook.html).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.fork.connections import holders_of
from pytest_celerypool.agent.detectors.fork.files import KIND
from pytest_celerypool.agent.detectors.holders import made_at, walk

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

_LIBRARY = "logging.handlers"


class Rotations(Detector):
    """Looks who else has a log file open when a task has it renamed."""

    kinds = (KIND,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._told: set[str] = set()
        self._in_child = False

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def begin(self) -> None:
        """Hear of every renaming, if the application has imported the handlers."""
        handlers = sys.modules.get(_LIBRARY)
        if handlers is not None:
            self.before(handlers.BaseRotatingHandler, "rotate", self._renames)

    def forked(self) -> None:
        """Go on in a child, of which there are others."""
        self._in_child = True

    def _renames(self, handler: Any, source: str, *_: Any) -> None:
        # A handler that locks the file for other processes has a way of its own to do it.
        if not self._in_child or type(handler).doRollover.__module__ != _LIBRARY or source in self._told:
            return
        run = self.watch.recorder.current()
        others = [pid for pid in holders_of(os.path.realpath(source)) if pid != family.main_pid()]
        if run is None or not others:
            return
        self._told.add(source)
        frames = self.watch.frames
        reached = next(walk(frames, lambda each: each is handler), None)
        made = [] if reached is None else made_at(frames, reached)
        self.watch.report(
            KIND.name,
            run,
            f"the task has had {os.path.basename(source)} renamed by its {type(handler).__name__}, and other children "
            "have that file open: under prefork each child has the handler, so they go on writing to the renamed file, "
            "and rename in their turn what this one writes",
            [
                *made,
                frames.place(frames.user_frame(sys._getframe())),
                f"open in the children {', '.join(map(str, others))}; renamed in {os.getpid()} of {family.main_pid()}",
            ],
            "log to the standard error, through a QueueHandler to one process, or by a WatchedFileHandler that another "
            "program rotates",
            key=f"rotation {source}",
        )
