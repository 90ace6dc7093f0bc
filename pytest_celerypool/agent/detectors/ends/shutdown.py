"""A worker that is told to stop, and does not: what keeps it."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.code.endless import endless
from pytest_celerypool.agent.receivers import receivers_of
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

HANGS = Kind("shutdown-hangs", "fail", "the process of the worker does not end after a warm shutdown", 1.0, "s")

_POLL_S = 0.1

#: A thread that may end by itself is waited for so long, in seconds, before it is said to keep the worker.
_PATIENCE_S = 3.5


class Started:
    """A thread that a task started.

    :ivar place: the user's line.
    """

    def __init__(self, thread: threading.Thread, task: str, run: str, place: str, stack: list[str]) -> None:
        self.thread = weakref.ref(thread)
        self.task, self.run, self.place, self.stack = task, run, place, stack


class Shutdown(Detector):
    """Sees what keeps the process of a worker that has stopped.

    Python waits at its end for every thread that is not a daemon. A child of prefork does not, and greenlets are none;
    but those of an executor that gevent has made greenlets of are waited for like threads, by ``concurrent.futures``.
    """

    kinds: ClassVar[Sequence[Kind]] = (HANGS,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._threads: list[Started] = []
        self._told = False
        self._main: Any = None

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the tasks run in the process that has to end, and it may wait for what they have started."""
        return not watch.pool.forks and watch.pool.name != "eventlet"

    def install(self) -> None:
        """Hear of every thread that a task starts."""
        self.after(threading.Thread, "start", self._started)
        if self.watch.pool.green:
            self._main = _outermost_greenlet()

    def _started(self, _: None, thread: threading.Thread) -> None:
        run = self.watch.current()
        if run is None or (thread.daemon and self._main is None):  # each of gevent's is one
            return
        frames = self.watch.frames
        frame = frames.user_frame(sys._getframe())
        if frame is not None:
            self._threads = [each for each in self._threads if _alive(each) is not None]
            self._threads.append(Started(thread, run.task.name, run.id, frames.place(frame), frames.stack(frame)[1:]))

    def stopping(self) -> None:
        """Begin to look what keeps the process."""
        if self._told:
            return
        self._told = True
        if self.watch.launch == "subprocess":
            originals.start_new_thread(self.watch.guarded(self, self._watch_exit), ())
        else:
            self._look_inside()

    # -- a process of the worker's own

    def _watch_exit(self) -> None:
        main = threading.main_thread().ident
        waits_since: float | None = None
        limit = self.watch.limit(HANGS.name)
        while True:
            originals.sleep(_POLL_S)
            frame = sys._current_frames().get(main or 0) if self._main is None else self._main.gr_frame
            if not _is_leaving(frame):
                waits_since = None
                continue
            now = time.monotonic()
            waits_since = waits_since or now
            waited = now - waits_since
            if waited < limit:
                continue
            alive = [each for each in self._threads if _alive(each) is not None and self._is_waited_for(each)]
            frames = sys._current_frames() if self._main is None else _frames_of_greenlets()
            for each in alive:
                thread = _alive(each)
                where = frames.get(thread.ident or 0) if thread is not None else None
                why = endless(where)
                if thread is not None and (why is not None or waited > _PATIENCE_S):
                    self._report(
                        each, thread, where, why, f"the main thread has waited for it {waited:.1f} s at its end"
                    )
            if waited > _PATIENCE_S or not alive:
                return

    def _is_waited_for(self, each: Started) -> bool:
        """Whether the process waits for a thread at its end: of greenlets, for those of an executor alone."""
        futures: Any = sys.modules.get("concurrent.futures.thread")
        return self._main is None or (futures is not None and each.thread() in futures._threads_queues)

    def _report(
        self, each: Started, thread: threading.Thread, where: FrameType | None, why: str | None, seen: str
    ) -> None:
        frames, kind = self.watch.frames, "no daemon" if self._main is None else "one of an executor"
        own = frames.user_frame(where)
        self.watch.report(
            HANGS.name,
            None,
            f"a thread that the task started {why or 'is still running'} and is {kind}: under "
            f"{self.watch.pool.name} the worker has stopped, but its process waits for that thread for ever",
            [
                each.place,
                *(f"  called from {line}" for line in each.stack),
                f"the thread {thread.name!r} is here: {frames.place(own if own is not None else where)}",
                f"started by {each.run}; process {os.getpid()}; {seen}",
            ],
            "end the thread before the task ends, or at worker_shutdown, or start it with daemon=True"
            if self._main is None
            else "end what it does at worker_shutting_down, and shut the executor down",
            key=each.place,
            task=each.task,
        )

    # -- the process of the tests

    def _look_inside(self) -> None:
        """The process goes on; a thread that nothing can end would keep it at its end."""
        if self.watch.pool.green:
            return  # a host of its own, which ends in another way
        from celery import signals

        stopping = (signals.worker_shutdown, signals.worker_shutting_down)
        if any(receivers_of(signal, self.watch.frames) for signal in stopping):
            return  # they may end it
        frames = sys._current_frames()
        for each in self._threads:
            thread = _alive(each)
            where = frames.get(thread.ident or 0) if thread is not None else None
            why = endless(where)
            if thread is not None and why is not None:
                self._report(each, thread, where, why, "the worker stops, and no receiver of its shutdown could end it")


def _alive(each: Started) -> threading.Thread | None:
    thread = each.thread()
    return thread if thread is not None and thread.is_alive() else None


def _outermost_greenlet() -> Any:
    """Return the greenlet in which the main thread runs what is no other's."""
    import greenlet

    found = greenlet.getcurrent()
    while found.parent is not None:
        found = found.parent
    return found


def _frames_of_greenlets() -> dict[int, FrameType]:
    """Return where the greenlets of the process are, by what threading takes for the number of their thread."""
    import greenlet

    every = [each for each in gc.get_objects() if issubclass(type(each), greenlet.greenlet)]
    return {id(each): each.gr_frame for each in every if each.gr_frame is not None}


def _is_leaving(frame: FrameType | None) -> bool:
    """Whether the main thread waits for other threads at the end of the interpreter."""
    while frame is not None:
        if frame.f_code.co_name in ("_shutdown", "_python_exit") and frame.f_code.co_filename.endswith(
            ("threading.py", "concurrent/futures/thread.py")
        ):
            return True
        frame = frame.f_back
    return False
