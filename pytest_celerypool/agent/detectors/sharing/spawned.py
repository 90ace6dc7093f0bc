"""Greenlets that a task starts in a pool whose hub never runs: what they are to do never happens.

``gevent.spawn`` and ``eventlet.spawn`` only note the greenlet with the hub of the thread, and it runs when the thread
waits in a way that the library knows. Under their own pool every wait is one; elsewhere only a ``join`` or ``get`` is.
"""

from __future__ import annotations

import ast
import sys
from typing import Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.calls import flow_of_task
from pytest_celerypool.agent.detectors.code.flow import Step
from pytest_celerypool.agent.detectors.code.standing import Reader, function_of
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.watch import Watch

_MARK = "spawned"
_STARTERS = ("spawn", "start")


class Spawned(Detector):
    """Compares how many greenlets wait for the hub before a task and after it."""

    kinds = (Kind("pool-bound", "fail", "code that works under one pool only"),)
    mark = _MARK

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._reader = Reader(watch.frames)
        #: The libraries whose hub is not the pool's.
        self._foreign = {"gevent", "eventlet"} - {watch.pool.name}
        self.rest("started")

    def imported(self) -> None:
        """Begin to look at tasks when there may be greenlets of another library than the pool's."""
        if "started" in self.resting and not self._foreign.isdisjoint(sys.modules):
            self.listen("started")

    def started(self, run: Run) -> None:
        """Count what waits for hubs that are not the pool's."""
        run.marks[_MARK] = self._pending()

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Tell of what the task has left waiting."""
        before = run.marks[_MARK]
        for library, count in self._pending().items():
            if count > before.get(library, 0):
                self._tell(run, library, count - before.get(library, 0))

    def _pending(self) -> dict[str, int]:
        """Return by library how many callbacks and timers this thread's hub would come to, if it ran."""
        found = {}
        pool = self.watch.pool.name
        if pool != "gevent" and (module := sys.modules.get("gevent._hub_local")) is not None:
            hub = module.get_hub_if_exists()
            if hub is not None and hub.dead is not True:
                found["gevent"] = len(getattr(hub.loop, "_callbacks", ())) + getattr(hub.loop, "activecnt", 0)
        if pool != "eventlet" and (module := sys.modules.get("eventlet.hubs")) is not None:
            hub = getattr(module._threadlocal, "hub", None)
            if hub is not None:
                found["eventlet"] = len(hub.next_timers)
        return found

    def _tell(self, run: Run, library: str, count: int) -> None:
        self.watch.report(
            "pool-bound",
            run,
            f"the task started {count} greenlet{'s' if count > 1 else ''} of {library} and ended, and none of them has "
            f"run: under {self.watch.pool.name} the hub gets no time, so what they were to do never happens",
            [self._line(run, library), f"{count} more wait for the hub of this thread than when the task began"],
            f"wait for them in the task ({library}'s joinall or GreenPool.waitall), use a thread or a task of its own, "
            f"or run these tasks under {library} only",
            key=library,
        )

    def _line(self, run: Run, library: str) -> str:
        flow = flow_of_task(self._reader, run.task)
        calls = [step for step in flow.steps if step.kind == "enter"] if flow is not None else []
        found = next((step for step in calls if _starts(step, library)), None)
        if found is not None:
            return self._reader.place(found)
        function: Any = function_of(run.task, self.watch.frames)
        if function is None:
            return str(run.task.name)
        code = function.__code__
        return self.watch.frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)


def _starts(step: Step, library: str) -> bool:
    """Whether a call is likely the one that starts a greenlet."""
    if not isinstance(step.node, ast.Call):
        return False
    name = ast.unparse(step.node.func)
    return any(part.startswith(_STARTERS) for part in name.split(".")) or name.startswith(library)
