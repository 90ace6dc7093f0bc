"""Look at a task at a moment that nothing of its own brings: when its time limit has passed, or a second later.

A task that hangs ends nothing and calls nothing, so somebody else has to look. That is a native thread, since the hub
of a green pool may be what hangs; there is none until the first alarm is set, and it ends when there is none left.
"""

from __future__ import annotations

import heapq
import os
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent import originals

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: Seconds that the thread waits for another alarm before it ends.
_IDLE_S = 5.0


class Alarm:
    """Calls functions at moments, from a native thread.

    :param watch: the worker.
    :param guard: makes a function that raises switch its detector off.
    """

    def __init__(self, watch: Watch, guard: Callable[[Callable[..., None]], Callable[..., None]]) -> None:
        self._watch = watch
        self._guard = guard
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = originals.allocate_lock()
        self._wake = originals.allocate_lock()
        self._wake.acquire()
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._runs = False
        self._next = float("inf")

    def at(self, moment: float, callback: Callable[[], None]) -> None:
        """Call `callback` at a moment, in monotonic seconds; to be called in the thread of a slot or of the hub."""
        if self._pid != os.getpid():  # a forked child has no thread, and perhaps a lock that nobody releases
            self._forget()
        with self._lock:
            self._count += 1
            heapq.heappush(self._entries, (moment, self._count, self._guard(callback)))
            starts, self._runs = not self._runs, True
            wakes = not starts and moment < self._next
        if starts:
            originals.start_new_thread(self._run, ())
        elif wakes:
            self._release()

    def end(self) -> None:
        """Forget what is to come, and let the thread end."""
        with self._lock:
            self._entries.clear()
        self._release()

    def _release(self) -> None:
        try:
            self._wake.release()
        except RuntimeError:  # it has been woken already
            pass

    def _run(self) -> None:
        wake, lock = self._wake, self._lock
        idle = False
        while True:
            with lock:
                now = time.monotonic()
                due = heapq.heappop(self._entries)[2] if self._entries and self._entries[0][0] <= now else None
                if due is None:
                    if idle and not self._entries:
                        self._runs = False
                        return
                    self._next = self._entries[0][0] if self._entries else float("inf")
            if due is not None:
                due()
                continue
            idle = not self._entries
            wake.acquire(timeout=_IDLE_S if idle else max(0.0, self._next - now))

    # -- where a task is

    def running(self, run: Run) -> bool:
        """Whether a task still runs."""
        return any(each is run for each in self._watch.running())


def frame_of(watch: Watch, run: Run) -> FrameType | None:
    """Return the innermost frame of a task that runs, in whatever slot; ``None`` if that cannot be told."""
    for key, each in list(watch.recorder.running.items()):
        if each is run:
            if isinstance(key, int):
                return sys._current_frames().get(key)
            return _frame_of_greenlet(key, run)
    return None


def _frame_of_greenlet(greenlet: Any, run: Run) -> FrameType | None:
    frame: FrameType | None = greenlet.gr_frame
    if frame is None and greenlet:  # it has the hub at this moment
        frame = sys._current_frames().get(run.marks.get("thread", 0))
    return frame
