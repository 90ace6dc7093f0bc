"""Tasks whose result is code that nobody runs: Celery awaits nothing, under any pool."""

from __future__ import annotations

import ast
import inspect
import types
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.standing import function_of
from pytest_celerypool.agent.detectors.promises.limits import definition
from pytest_celerypool.agent.detectors.state.sources import name_of
from pytest_celerypool.agent.syntax import definition_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.frames import Frames
    from pytest_celerypool.agent.meters import Run

_NEVER_RUN = {
    types.CoroutineType: "a coroutine",
    types.AsyncGeneratorType: "an asynchronous generator",
    types.GeneratorType: "a generator",
}


class Coroutines(Detector):
    """Sees tasks whose result is code that nobody runs."""

    kinds = (Kind("coroutine-not-run", "fail", "a task returned a coroutine or generator that nobody ran"),)

    results = frozenset(_NEVER_RUN)

    def returned(self, run: Run, result: Any) -> None:
        """Look at what a task returns before it is stored."""
        what = _NEVER_RUN[type(result)]
        state = {"CORO_CREATED", "GEN_CREATED", "AGEN_CREATED"}
        if not {_state(result)} & state:
            return  # somebody has run it, partly at least
        code = getattr(result, "cr_code", None) or getattr(result, "gi_code", None) or result.ag_code
        frames = self.watch.frames
        where = frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)
        self.watch.report(
            "coroutine-not-run",
            run,
            f"it returned {what} that nobody ever ran: Celery awaits nothing, under {self.watch.pool.name} as under "
            "any pool, so that nothing of what stands in it was done",
            [
                where,
                *(f"returned at {line}" for line in _returned_at(run, code.co_name, frames)),
                f"defined at {definition(run, frames)}",
                f"result {result!r}",
            ],
            "Run it in the task, for example with asyncio.run(), or return what it yields as a list.",
            key=where,
        )


def _returned_at(run: Run, name: str, frames: Frames) -> list[str]:
    """Return the lines at which a task's function returns what a function of that name returns."""
    function = function_of(run.task, frames)
    if function is None:
        return []
    code = function.__code__
    lines = [
        node.lineno
        for node in ast.walk(definition_of(code) or ast.Pass())
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Call) and name_of(node.value.func) == name
    ]
    return [frames.place_of(code.co_filename, line, code.co_name) for line in lines]


def _state(result: Any) -> str:
    """Return whether a coroutine or generator has begun, in the words of :mod:`inspect`."""
    if isinstance(result, types.CoroutineType):
        return inspect.getcoroutinestate(result)
    if isinstance(result, types.GeneratorType):
        return inspect.getgeneratorstate(result)
    return "AGEN_CREATED" if result.ag_frame is not None and result.ag_frame.f_lasti < 1 else "AGEN_RUNNING"
