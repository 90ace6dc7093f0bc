"""Threads that a task starts and that fail: Python prints that to the worker's standard error, where nobody looks."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.state.changes import text_of
from pytest_celerypool.agent.frames import message_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_KIND = "thread-failed"


class Origin(NamedTuple):
    """Which task has started a thread, and where."""

    run: Run
    stack: list[str]


class ThreadFailures(Detector):
    """Hears of exceptions that end a thread which a task has started."""

    kinds = (Kind(_KIND, "warn", "a thread that a task started failed, and the task does not know"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._origins: weakref.WeakKeyDictionary[threading.Thread, Origin] = weakref.WeakKeyDictionary()

    def install(self) -> None:
        """Hear of threads that are started, and of how they end."""
        self.before(threading.Thread, "start", self._starts, in_task=True)

    def _starts(self, thread: threading.Thread) -> None:
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        if run is None or frame is None:
            return
        self._origins[thread] = Origin(run, self.watch.frames.stack(frame))
        tell = self.watch.guarded(self, self._failed)
        # The thread's own, which it has from its making.
        invoke: Any = thread._invoke_excepthook  # type: ignore[attr-defined]

        def told(failed: threading.Thread) -> None:
            tell(failed)
            invoke(failed)

        thread._invoke_excepthook = told  # type: ignore[attr-defined]

    def _failed(self, thread: threading.Thread) -> None:
        exc = sys.exc_info()[1]
        origin = self._origins.pop(thread, None)
        if exc is None or origin is None or isinstance(exc, SystemExit):
            return
        frames = self.watch.frames
        self.watch.report(
            _KIND,
            origin.run,
            f"the thread {thread.name} that it started ended with {type(exc).__name__}: {text_of(message_of(exc))}, "
            "which nobody hears of: Python prints it to the worker's standard error, and the task ends as if nothing "
            "was",
            [
                *(frames.raised_places(exc)[:3] or ["(no line of the project's own)"]),
                *(f"started at {line}" for line in origin.stack[:1]),
                f"task {origin.run.id}",
            ],
            "let concurrent.futures start the thread, and ask its future for the result in the task",
        )
