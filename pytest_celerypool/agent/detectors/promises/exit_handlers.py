"""Functions of ``atexit`` that a project relies on, and that the children of prefork never call.

A child leaves by ``os._exit()`` (``billiard/popen_fork.py``), as every forked process of ``multiprocessing`` does:
https://docs.python.org/3/library/atexit.html.
"""

from __future__ import annotations

import os
import sys
import types
from functools import partial
from operator import is_
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.holders import user_modules, walk
from pytest_celerypool.agent.detectors.promises.exit_keepers import Keeper, copies_of, filled_since, keeper_of
from pytest_celerypool.agent.detectors.promises.init_signals import lost_at_exit
from pytest_celerypool.agent.detectors.state import sources as state_sources
from pytest_celerypool.agent.reach import Reaches
from pytest_celerypool.agent.receivers import receivers_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_LOST, _UNCALLED = "atexit-ignored", "atexit-uncalled"

#: Objects made by tasks that are looked at.
_MOST = 100


class ExitHandlers(Detector):
    """Asks after a task whether what it leaves is waiting for a function that is never called."""

    kinds: ClassVar = (
        Kind(_LOST, "fail", "tasks rely on a function of atexit, which children of prefork never call"),
        Kind(_UNCALLED, "warn", "a task registers a function with atexit in a child of prefork, which never calls it"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._registered: list[Any] = []
        #: Calls that work on what objects keep, and what they kept at the fork.
        self._keepers: list[Keeper] = []
        self._before: dict[int, Any] = {}
        #: The same of objects that tasks of this child have made, each with its ``weakref.finalize``.
        self._made: list[tuple[Any, Keeper]] = []
        self._done: set[Any] = set()
        self._reaches = Reaches(self.watch.frames.is_user)
        self._told: set[Any] = set()
        #: Handlers of logging that keep records until they are closed.
        self._buffering: list[Any] = []
        self.rest("ended")

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def install(self) -> None:
        """Hear of every function that is registered."""
        import atexit
        import weakref

        self.after(atexit, "register", self._on_register)
        self.after(atexit, "unregister", self._on_unregister)
        self.after(weakref.finalize, "__init__", self._on_finalize)

    def forked(self) -> None:
        """Leave out what a receiver of a signal that is sent in children makes up for."""
        from celery import signals

        done: set[Any] = set()
        for signal in (signals.worker_process_shutdown, signals.task_postrun):
            for receiver in receivers_of(signal, self.watch.frames):
                done |= {receiver, *self._reaches.of(receiver).functions}
        self._done, self._made = done, []
        self._registered = [each for each in self._registered if not self._is_done(each)]
        self._keepers = [each for each in self._keepers if not self._is_done(each.function)]
        self._before = copies_of(self._keepers)
        # Who hears of the end of a child may write there what is left.
        self._buffering = [] if done else _buffering()
        if self._registered or self._buffering or self._keepers:
            self.listen("ended")

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look at what the task leaves behind for them."""
        for handler in self._buffering:
            if handler.buffer and handler.buffer[-1].process == os.getpid():
                self._buffering = []
                self._report_buffered(run, handler)
        task = self._reaches.of(run.task.run)
        for function in self._registered:
            sure, why = lost_at_exit(self._reaches.of(function), task, run.task.name)
            if sure and function not in self._told:
                self._told.add(function)
                self._report_lost(run, function, why)
        for keeper in list(self._keepers):
            kept = filled_since(keeper, self._before)
            if kept is not None:
                self._keepers.remove(keeper)
                self._report_lost(run, keeper.function, kept, keeper.how)
        if self._made:
            self._look_at_made(run)

    def _look_at_made(self, run: Run) -> None:
        """Tell of what tasks of this child have made for the exit, and what the program keeps until then."""
        self._made = [each for each in self._made if each[0].alive and each[0].atexit]
        for finalizer, keeper in list(self._made):
            kept, peeked = filled_since(keeper, {}), finalizer.peek()
            if kept is None or peeked is None:
                continue
            # Looked for once, since it takes a while. What nothing leads to is about to be collected, and the function
            # called.
            self._made.remove((finalizer, keeper))
            if any(walk(self.watch.frames, partial(is_, peeked[0]))):
                self._report_lost(run, keeper.function, kept, keeper.how)

    def _is_done(self, function: Any) -> bool:
        """Whether a receiver of a signal that is sent in children does the same."""
        return function in self._done or not self._done.isdisjoint(self._reaches.of(function).functions)

    def _on_finalize(self, _: Any, finalizer: Any, ___: Any, function: Any, *args: Any, **named: Any) -> None:
        keeper = keeper_of(function, (*args, *named.values()), "weakref.finalize", self.watch.frames.is_user)
        if keeper is None:
            return
        if self.watch.current() is None:
            self._keepers.append(keeper)
        elif len(self._made) < _MOST and not self._is_done(keeper.function):
            self._made.append((finalizer, keeper))
            if "ended" in self.resting:
                self.listen("ended")

    def _keep(self, function: Any, args: tuple[Any, ...], how: str) -> None:
        keeper = keeper_of(function, args, how, self.watch.frames.is_user)
        if keeper is not None:
            self._keepers.append(keeper)

    def _on_register(self, _: Any, function: Any, *args: Any, **named: Any) -> None:
        frames = self.watch.frames
        run = self.watch.current()
        if run is not None:
            # Between this and who calls atexit.register() are Watch.guarded() and Detector.after().
            self._report_uncalled(run, function, sys._getframe(3))
        else:
            if isinstance(function, types.FunctionType) and frames.is_user(function.__code__.co_filename):
                self._registered.append(function)
            self._keep(function, (*args, *named.values()), "atexit")

    def _on_unregister(self, _: Any, function: Any) -> None:
        self._registered = [each for each in self._registered if each is not function]
        inner = getattr(function, "__func__", function)
        self._keepers = [each for each in self._keepers if each.function is not inner]

    def _report_lost(self, run: Run, function: types.FunctionType, why: str, how: str = "atexit") -> None:
        code = function.__code__
        name = function.__qualname__
        where = self.watch.frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)
        self.watch.report(
            _LOST,
            run,
            f"{name} is registered with {how}, and a child of prefork leaves without calling it: what the tasks leave "
            f"to it is lost when the child ends; {why}",
            [where, why, f"{run.task.name}[{run.id}] ran in a child, which never calls it"],
            f"connect {name} to worker_process_shutdown as well, or do it in the task",
            key=where,
        )

    def _report_buffered(self, run: Run, handler: Any) -> None:
        count, name = len(handler.buffer), type(handler).__name__
        files = [str(module.__file__) for module in user_modules(self.watch.frames)]
        line = state_sources.find(run.task, files, state_sources.calls(name), at_import=True)
        self.watch.report(
            _LOST,
            run,
            f"{count} records of the log wait in a {name} until logging.shutdown writes them, which is registered with "
            "atexit, and a child of prefork leaves without calling it: they are lost when the child ends",
            [
                self.watch.frames.place_of(*(line or state_sources.task_line(run.task))),
                f"the last record is {handler.buffer[-1].getMessage()!r}",
                f"{run.task.name}[{run.id}] ran in child {os.getpid()}",
            ],
            "flush the handler in a receiver of worker_process_shutdown, or at the end of the task",
            key=name,
        )

    def _report_uncalled(self, run: Run, function: Any, caller: FrameType) -> None:
        frames = self.watch.frames
        # How a library cleans up is its own affair.
        if not frames.is_user(caller.f_code.co_filename):
            return
        name = getattr(function, "__qualname__", repr(function))
        self.watch.report(
            _UNCALLED,
            run,
            f"it registers {name} with atexit, and a child of prefork leaves without calling it: what it is to clean "
            "up or to write when the process ends is left",
            [frames.place(caller), *(f"  called from {line}" for line in frames.stack(caller)[1:])],
            "do it in a finally of the task, or in a receiver of worker_process_shutdown",
        )


def _buffering() -> list[Any]:
    """Return the handlers that keep records of the log, and write what is left when they are closed."""
    import logging

    handlers: Any = sys.modules.get("logging.handlers")
    if handlers is None:
        return []
    found = [reference() for reference in list(logging._handlerList)]  # type: ignore[attr-defined]
    return [each for each in found if isinstance(each, handlers.MemoryHandler) and each.target and each.flushOnClose]
