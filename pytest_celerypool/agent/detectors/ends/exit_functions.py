"""A worker that has stopped, and whose process a function of ``atexit`` keeps.

A child of prefork leaves without calling any (``billiard/popen_fork.py``), so that one which waits for what never comes
is seen only where tasks run in the process of the worker itself.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import sys
import time
import traceback
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.code.endless import endless
from pytest_celerypool.agent.detectors.ends.main_frames import MainFrames
from pytest_celerypool.agent.detectors.ends.shutdown import HANGS

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

_POLL_S = 0.1

#: A function that may end by itself is waited for so long, in seconds: the worker is killed a little later.
_PATIENCE_S = 3.0


class Registered(NamedTuple):
    """A function of ``atexit``.

    :ivar code: what it runs, ``None`` if that is not written in Python.
    :ivar task: the name of the task that registered it, ``None`` if the module did.
    :ivar lines: that registered it, the innermost first: file, line and function.
    """

    code: CodeType | None
    name: str
    task: str | None
    lines: list[tuple[str, int, str]]


class ExitFunctions(Detector):
    """Looks which function of ``atexit`` the process of a stopped worker is in, and for how long."""

    kinds = (HANGS,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._registered: list[Registered] = []
        self._frames = MainFrames(green=watch.pool.green)
        self._began_at: float | None = None
        self._told = self._over = False

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the tasks run in the process that has to end."""
        return watch.launch == "subprocess" and not watch.pool.forks

    def install(self) -> None:
        """Hear of every function that is registered: of those the first that is called is the last one."""
        atexit.register(self._ends)
        self.after(atexit, "register", self._registers)

    def remove(self) -> None:
        """End."""
        for each in (self._begins, self._ends):
            atexit.unregister(each)
        super().remove()

    def stopping(self) -> None:
        """Begin to look what keeps the process."""
        if not self._told:
            self._told = True
            atexit.register(self._begins)
            originals.start_new_thread(self.watch.guarded(self, self._watch_exit), ())

    def _begins(self) -> None:
        self._began_at = time.monotonic()

    def _ends(self) -> None:
        self._over = True

    def _registers(self, _: Any, function: Any, *__: Any, **___: Any) -> None:
        if getattr(function, "__self__", None) is self:
            return
        frames, run = self.watch.frames, self.watch.current()
        # Between this and who calls atexit.register() are Watch.guarded() and Detector.after().
        caller: FrameType = sys._getframe(3)
        called = traceback.walk_stack(frames.user_frame(caller) or caller)
        # Their source is read if it is needed: most of this happens while the worker starts.
        lines = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in itertools.islice(called, 4)]
        name = getattr(function, "__qualname__", repr(function))
        self._registered.append(Registered(_code_of(function), name, run.task.name if run is not None else None, lines))

    # -- in a thread of its own

    def _watch_exit(self) -> None:
        limit = self.watch.limit(HANGS.name)
        while not self._over:
            originals.sleep(_POLL_S)
            if self._began_at is None or (waited := time.monotonic() - self._began_at) < limit:
                continue
            frame, found = self._running()
            why = endless(frame)
            if found is not None and (why is not None or waited > _PATIENCE_S):
                self._report(found, frame, why, waited)
                return

    def _running(self) -> tuple[FrameType | None, Registered | None]:
        """Return the function that the main thread is in, and its innermost frame: one written in C has none."""
        for innermost in self._frames.innermost():
            outermost = innermost
            while outermost.f_back is not None:
                outermost = outermost.f_back
            found = next((each for each in self._registered if each.code is outermost.f_code), None)
            if found is not None:
                return innermost, found
        in_c = [each for each in self._registered if each.code is None]
        return None, in_c[0] if len(in_c) == 1 else None  # of several nobody can tell

    def _report(self, found: Registered, frame: FrameType | None, why: str | None, waited: float) -> None:
        frames, pool = self.watch.frames, self.watch.pool.name
        here = [] if frame is None else [f"it is here: {frames.place(frames.user_frame(frame) or frame)}"]
        first, *callers = (frames.place_of(*each) for each in found.lines)
        self.watch.report(
            HANGS.name,
            None,
            f"{found.name}, which was registered with atexit, {why or 'is still running'}: under {pool} the worker has "
            f"stopped, but its process waits for that function {'for ever' if why else f'since {waited:.1f} s'}",
            [
                first,
                *(f"  called from {line}" for line in callers if not line.startswith("<frozen ")),
                *here,
                f"process {os.getpid()} has been at its end for {waited:.1f} s",
            ],
            "give what it waits for a limit, or do it in a receiver of worker_shutdown that does not wait for ever",
            key=first,
            task=found.task,
        )


def _code_of(function: Any) -> CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        function = vars(type(function)).get("__call__")  # of an object that can be called
    return function.__code__ if isinstance(function, FunctionType) else None
