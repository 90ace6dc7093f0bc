"""Exceptions whose cause is what the library of the pool has taken away, or a loop of asyncio that tasks share.

The same code succeeds under other pools, and the exception says nothing of that.
"""

from __future__ import annotations

import os
import re
import sys
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.hub.substitutes import Lacking, lacking
from pytest_celerypool.agent.frames import chain, message_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

AWAY, SHARED = "patched-away", "loop-shared"


_ATTRIBUTE = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_NAME = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")

#: What asyncio says of a loop that is not the one it wants, and what two slots do to get there.
_LOOPS = (
    (
        re.compile(r"event loop is already running"),
        ("threads",),
        "it runs a loop of asyncio that another task is running at this moment",
    ),
    (
        re.compile(r"is bound to a different event loop|attached to a different loop"),
        ("threads", "gevent", "eventlet"),
        "it waits on an object of asyncio that another task has used in a loop of its own",
    ),
)


class Removed(NamedTuple):
    """What a library removed from a module."""

    module: str
    name: str


class Explained(Detector):
    """Looks at the exceptions of tasks that failed; one that succeeds costs two additions."""

    kinds = (
        Kind(AWAY, "fail", "a task failed for want of what the library of the pool has removed from Python"),
        Kind(SHARED, "fail", "tasks that run at once use one loop of asyncio, or an object that belongs to one"),
    )

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where tasks share a process at the same time."""
        return watch.pool.overlaps

    def begin(self) -> None:
        """Hear of coroutines that are given to a loop, where the greenlets of one thread may take that of another."""
        asyncio = sys.modules.get("asyncio")
        if self.watch.pool.green and asyncio is not None:
            self.before(asyncio, "run_coroutine_threadsafe", self._gives, in_task=True)
            self.before(
                asyncio.BaseEventLoop, "create_task", lambda loop, *_, **__: self._gives(None, loop), in_task=True
            )

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Explain what a task failed with."""
        if exc is None:
            return
        overlapped = self.watch.overlapped(run)
        for each in chain(exc):
            removed = removed_by(each, self.watch.pool.name)
            if removed is not None:
                self._away(run, each, removed)
                return
            missed = lacking(each, self.watch.pool.name)
            if missed is not None:
                self._lacks(run, each, missed)
                return
            if overlapped and isinstance(each, RuntimeError):
                self._loop(run, each)

    def _away(self, run: Run, exc: BaseException, removed: Removed) -> None:
        self._wants(
            run,
            exc,
            f"it needs {removed.module}.{removed.name}, which {self.watch.pool.name} has removed because it would stop "
            "all tasks",
            f"the module {removed.module} of Python itself has it",
            _INSTEAD.get(
                removed.module, "ask whether the module has it (hasattr), and go another way where it has not"
            ),
        )

    def _lacks(self, run: Run, exc: BaseException, missed: Lacking) -> None:
        self._wants(
            run,
            exc,
            f"it needs {missed.name} of the class that Python has in {missed.module}, and {self.watch.pool.name} has "
            f"put {missed.substitute} in its place, which has none",
            f"the module {missed.module} of Python itself has it",
            "use what both classes have, which is what Python documents, or ask for it (hasattr)",
        )

    def _wants(self, run: Run, exc: BaseException, wants: str, has: str, remedy: str) -> None:
        places = self.watch.frames.raised_places(exc) or [self.watch.frames.place(None)]
        self.watch.report(
            AWAY,
            run,
            f"{wants}: it can only fail here",
            [*places, f"{type(exc).__name__}: {exc}", has],
            remedy,
            key=places[0],
        )

    def _gives(self, _: Any, loop: Any) -> None:
        """A task gives a coroutine to a loop: tell if that is run by another task, and ends with it."""
        run, tracer = self.watch.current(), self.watch.recorder.tracer
        frame = self.watch.frames.user_frame(sys._getframe())
        if run is None or frame is None or tracer is None:
            return
        others = [
            other
            for greenlet, other in list(tracer.running.items())
            if other is not run and _runs(greenlet.gr_frame, loop)
        ]
        if not others:
            return
        places = self.watch.frames.stack(frame)
        self.watch.report(
            SHARED,
            run,
            "it gives a coroutine to the loop of asyncio that another task runs at this moment, and with that task the "
            f"loop ends: asyncio keeps the running loop for the thread, and under {self.watch.pool.name} all tasks "
            "share one",
            [*places, *(f"runs the loop: {each.task.name}[{each.id}]" for each in others)],
            "run coroutines by asyncio.run(...) one at a time, or keep one loop in a thread of its own",
            key=places[0],
            others=others,
        )

    def _loop(self, run: Run, exc: BaseException) -> None:
        text = message_of(exc)
        pool = self.watch.pool.name
        for pattern, pools, does in _LOOPS:
            if pool not in pools or not pattern.search(text):
                continue
            others = [each for each in self.watch.running() if each is not run]
            places = self.watch.frames.raised_places(exc) or [self.watch.frames.place(None)]
            self.watch.report(
                SHARED,
                run,
                f"{does}: {pool} runs the tasks of a process at once, and each loop belongs to one of them at a time",
                [
                    *places,
                    f"{type(exc).__name__}: {text}",
                    *(f"runs at the same time: {each.task.name}[{each.id}]" for each in others[:5]),
                ],
                "make the loop, and what belongs to it, in the task (asyncio.run(...)), or keep one loop in a thread "
                "of its own and hand coroutines to it by asyncio.run_coroutine_threadsafe",
                key=places[0],
                others=others[:5],
            )
            return


def _runs(frame: FrameType | None, loop: Any) -> bool:
    """Whether a loop of asyncio is run by what a frame is the innermost of."""
    while frame is not None:
        code = frame.f_code
        if code.co_name == "run_forever" and code.co_filename.endswith(_BASE_EVENTS):
            return frame.f_locals.get("self") is loop
        frame = frame.f_back
    return False


_BASE_EVENTS = os.path.join("asyncio", "base_events.py")

_INSTEAD = {
    "select": "use selectors.DefaultSelector, or select.select, which the pool has made cooperative; or take "
    "select.epoll only where there is one (hasattr)",
    "selectors": "use selectors.DefaultSelector, which the pool has made cooperative",
}


def removed_by(exc: BaseException, pool: str) -> Removed | None:
    """Return what an exception misses in a module, if the library of a pool has removed it.

    :param pool: its name.
    """
    asked = _asked(exc)
    if asked is None or hasattr(sys.modules.get(asked.module), asked.name):
        return None
    original = {"gevent": _original_of_gevent, "eventlet": _original_of_eventlet}.get(pool)
    return asked if original is not None and original(asked) else None


def _asked(exc: BaseException) -> Removed | None:
    """Return what was looked for in a module of Python, and not found."""
    if isinstance(exc, AttributeError):
        match = _ATTRIBUTE.search(message_of(exc))
        if match is not None and isinstance(getattr(exc, "obj", None) or sys.modules.get(match[1]), ModuleType):
            return Removed(match[1], match[2])
    elif isinstance(exc, ImportError):
        match = _NAME.search(message_of(exc))
        if match is not None:
            return Removed(match[2], match[1])
    return None


def _original_of_gevent(asked: Removed) -> bool:
    from gevent import monkey

    return asked.name in monkey.saved.get(asked.module, {})


def _original_of_eventlet(asked: Removed) -> bool:
    if asked.module.partition(".")[0] not in sys.stdlib_module_names:
        return False
    # Asked for a module that it has not loaded apart yet, ``eventlet.patcher.original`` would load it now.
    green = sys.modules.get(f"eventlet.green.{asked.module}")
    return asked.name in getattr(green, "__deleted__", ())
