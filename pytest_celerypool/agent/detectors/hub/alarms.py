"""Deadlines made of SIGALRM, which go off wherever the process is just then: in a green pool seldom in their task.

Python runs the handler of a signal in the main thread, in whatever greenlet has it (https://docs.python.org/3/library/
signal.html#signals-and-threads). While the task waits that is the hub, or another task.
"""

from __future__ import annotations

import ast
import functools
import signal
import sys
import types
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.places import Scope, resolve_callable
from pytest_celerypool.agent.detectors.code.standing import Starter, native_starter
from pytest_celerypool.agent.syntax import definition_of, last_name

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_KIND = "alarm-elsewhere"

#: Seconds before and after an alarm at which the task must wait, and be waiting at the same place.
_MARGIN_S = 0.05

#: What code asks that wants to know which task it runs in.
_TASKS = frozenset({"current_task", "get_current_task", "current_worker_task"})

#: Calls of the user's functions that are followed from a handler.
_DEEPEST = 1


class Alarms(Detector):
    """Looks where a task is when the timer that it has set goes off."""

    kinds = (Kind(_KIND, "fail", "a task's alarm goes off while it waits, in the hub or in another task"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._start: Starter | None = None

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether slots are greenlets of the main thread."""
        return watch.pool.green

    def install(self) -> None:
        """Hear of every timer."""
        self.after(signal, "alarm", lambda _, seconds: self._set(float(seconds)), in_task=True)
        self.after(signal, "setitimer", self._set_timer, in_task=True)

    def _set_timer(self, _: Any, which: int, seconds: float, *__: Any) -> None:
        if which == signal.ITIMER_REAL:
            self._set(seconds)

    def _set(self, seconds: float) -> None:
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        if (
            run is None
            or frame is None
            or seconds <= 2 * _MARGIN_S
            or not _needs_its_task(signal.getsignal(signal.SIGALRM))
        ):
            return
        self._start = self._start or native_starter()
        self._start(functools.partial(self._look, run, seconds, self.watch.frames.stack(frame)), ())

    def _look(self, run: Any, seconds: float, stack: list[str]) -> None:
        """Wait until the alarm goes off, in a native thread of its own, and look where the task is."""
        try:
            originals.sleep(seconds - _MARGIN_S)
            remaining = signal.getitimer(signal.ITIMER_REAL)[0]
            before = _waits_at(run)
            originals.sleep(2 * _MARGIN_S)
            # It was not switched off, and the task has not noticed.
            if 0 < remaining <= 2 * _MARGIN_S and before is not None and _waits_at(run) == before and not run.over:
                self._report(run, seconds, stack)
        except Exception as exc:  # noqa: BLE001 - a detector spoils nothing
            self.watch.switch_off(self, exc)

    def _report(self, run: Run, seconds: float, stack: list[str]) -> None:
        self.watch.report(
            _KIND,
            run,
            f"its alarm of {seconds:g} s went off while it waited, and it waits on: under {self.watch.pool.name} the "
            "handler runs in the hub or in another task: it takes that for this one, and what it raises ends that one",
            [*stack, f"task {run.id}"],
            "use the timeout of what you wait for, or gevent.Timeout or eventlet.Timeout, which know their greenlet",
            key=stack[0],
        )


def _waits_at(run: Any) -> tuple[int, int] | None:
    """Return where the greenlet of a task waits, ``None`` if it does not."""
    frame = None if run.greenlet is None else run.greenlet.gr_frame
    return None if frame is None else (id(frame), frame.f_lasti)


def _needs_its_task(handler: Any, depth: int = _DEEPEST) -> bool:
    """Whether a handler does what is right in its own task alone: it raises, or asks which task this is.

    One that sets a flag does so wherever it runs.

    :param depth: so many calls of functions of the user's are followed.
    """
    while isinstance(handler, functools.partial | types.MethodType):
        handler = handler.func if isinstance(handler, functools.partial) else handler.__func__
    if not isinstance(handler, types.FunctionType):
        return False
    scope = Scope({}, handler.__globals__)
    for each in ast.walk(definition_of(handler.__code__) or ast.Pass()):
        if isinstance(each, ast.Raise) or (isinstance(each, ast.Name | ast.Attribute) and last_name(each) in _TASKS):
            return True
        if depth and isinstance(each, ast.Call) and _needs_its_task(resolve_callable(each.func, scope), depth - 1):
            return True
    return False
