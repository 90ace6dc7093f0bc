"""Connections of ``sqlite3`` that the parent opened and a task uses in a child, which SQLite forbids.

Its locks of a file belong to the process, and a child that closes the inherited file gives those of its own connections
away: https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_file_across_a_fork_.
"""

from __future__ import annotations

import functools
import gc
import os
import stat
import sys
from collections.abc import Sequence
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.fork.connections import SHARED, descriptors
from pytest_celerypool.agent.detectors.holders import Reached, made_at, walk
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

#: What a file of SQLite begins with: https://www.sqlite.org/fileformat.html#magic_header_string.
_MAGIC = b"SQLite format 3\0"

_FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, functools.partial)


class Databases(Detector):
    """Hears of the statements that a task sends over a connection from before the fork."""

    kinds: ClassVar[Sequence[Kind]] = (SHARED,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._inherited: list[Reached] = []

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def begin(self) -> None:
        """See every fork beforehand."""
        from billiard import popen_fork

        self.before(popen_fork.Popen, "_launch", self._about_to_fork)

    def _about_to_fork(self, *_: Any) -> None:
        sqlite3, self._inherited = sys.modules.get("sqlite3"), []
        files = 0 if sqlite3 is None else sum(_is_database(fd, status) for fd, status in descriptors())
        if sqlite3 is None or not files:
            return
        found = list(walk(self.watch.frames, lambda value: issubclass(type(value), sqlite3.Connection)))
        # A database in memory has no file, and each process one of its own.
        if len(found) <= files:
            self._inherited = [each for each in found if not _tells_somebody(each.value)]

    def forked(self) -> None:
        """Hear of what is sent over them: SQLite tells of each statement that begins."""
        for reached in self._inherited:
            told = self.watch.guarded(self, self._teller(reached))
            try:
                reached.value.set_trace_callback(told)
            except Exception:  # noqa: BLE001 - it is closed, or belongs to another thread: no task can use it
                pass

    def _teller(self, reached: Reached) -> Any:
        told = False

        def tell(statement: str) -> None:
            nonlocal told
            run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
            if told or run is None or frame is None:
                return
            told = True
            lines, name = self.watch.frames.stack(frame), reached.path
            self.watch.report(
                SHARED.name,
                run,
                f"the task sends a statement over {name}, a connection of sqlite3 that was opened before the fork: all "
                "children of prefork have the same open file, whose locks SQLite keeps for the process, so that they "
                "do not keep each other out, and the file may be corrupted",
                [
                    lines[0],
                    *(f"  called from {line}" for line in lines[1:]),
                    *(f"opened at {line}" for line in made_at(self.watch.frames, reached)),
                    f"statement {statement[:80]!r} in child {os.getpid()} of {family.main_pid()}",
                ],
                "open it in each child: on first use (and again if os.getpid() has changed), or in a receiver of "
                "worker_process_init",
                key=lines[0],
            )

        return tell


def _is_database(fd: int, status: os.stat_result) -> bool:
    """Whether a file is one of SQLite's; its position stays where it is."""
    try:
        return stat.S_ISREG(status.st_mode) and os.pread(fd, len(_MAGIC), 0) == _MAGIC
    except OSError:  # it is not for reading
        return False


def _tells_somebody(connection: Any) -> bool:
    """Whether a connection has a function to call, perhaps at each statement: which one, nobody can ask."""
    made_with = (connection.row_factory, connection.text_factory)
    held = [each for each in gc.get_referents(connection) if isinstance(each, _FUNCTIONS)]
    return any(all(each is not one for one in made_with) for each in held)
