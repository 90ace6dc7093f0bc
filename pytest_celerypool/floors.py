"""What cannot be told from nothing: what a task takes that does nothing, measured in the worker of the test."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from weakref import WeakKeyDictionary

from pytest_celerypool.launch import Launched
from pytest_celerypool.markers import BudgetSpec
from pytest_celerypool.repetition import apart, wait
from pytest_celerypool.verdict import Failure
from pytest_celerypool.verdict.budgets import shown
from pytest_celerypool.verdict.matching import applies
from pytest_celerypool.verdict.measures import PER_SPAN, Range
from pytest_celerypool.worker import WorkerHandle

#: A task of Celery's own (``celery.app.builtins``), which every application has, and which does nothing.
_NOTHING = "celery.accumulate"
_TIMES = 10

#: From where on a limit is above the floor on any machine that was seen, so that it need not be measured: seconds.
_HIGH: Mapping[str, float] = {"runtime": 0.01, "cpu": 0.01, "hold": 0.01, "queued": 0.02, "total": 0.03}

#: Bytes by which a worker that has warmed up grows and shrinks by itself, and by which one grows at its first tasks:
#: what a child shares with its parent becomes its own (measured: 0.5 and 3.3 MiB,
#: tests/benchmarks/test_budget_noise.py).
MEMORY_NOISE = 1 << 20
_HIGH_MEMORY = 16 << 20
_WARM_UP = 4 << 20

_floors: WeakKeyDictionary[Launched, Mapping[str, float]] = WeakKeyDictionary()


def refused(handle: WorkerHandle, spec: BudgetSpec) -> dict[str, Failure]:
    """Return the measures whose limits are below what a task takes that does nothing, each with a failure.

    :param handle: all of whose tasks have ended; tasks of Celery's own are sent to its worker if a limit is so low that
        it has to be looked at.
    """
    if not applies(spec.pools, handle.pool.name):
        return {}
    low = {name: limit for name, limit in spec.limits.items() if limit.value < _HIGH.get(name, 0.0)}
    floors = _floors_of(handle) if low else {}
    told = {name: floors[name] for name, limit in low.items() if limit.value < floors.get(name, 0.0)}
    if "memory" in spec.limits and spec.limits["memory"].value < MEMORY_NOISE:
        told["memory"] = MEMORY_NOISE
    return {
        name: Failure(
            f"celery_budget({name}={spec.limits[name].text}) under {handle.pool}: it is below the noise floor of "
            f"{shown(name, floor)}, {_what(name)}: nothing could be told by it. Give a limit above that"
        )
        for name, floor in told.items()
    }


def _what(measure: str) -> str:
    if measure == "memory":
        return "by which a worker grows and shrinks by itself"
    return "which a task takes here that does nothing"


def _floors_of(handle: WorkerHandle) -> Mapping[str, float]:
    if handle.launched not in _floors:
        with apart(handle) as ledger:
            for _ in range(_TIMES):
                _do_nothing(handle)
                if wait(handle) is not None:
                    break
        spans = ledger.spans
        figures = {name: [found.low for span in spans if (found := of(span))] for name, of in PER_SPAN.items()}
        _floors[handle.launched] = {name: median(values) for name, values in figures.items() if values}
    return _floors[handle.launched]


def warm_up(handle: WorkerHandle, spec: BudgetSpec) -> None:
    """Let every slot of a worker run something before its memory is measured, if the limit is low enough to matter."""
    limit = spec.limits.get("memory")
    if limit is None or limit.value >= _HIGH_MEMORY or not applies(spec.pools, handle.pool.name):
        return
    with apart(handle):
        for _ in range(2 * handle.concurrency if handle.pool.forks else 2):
            _do_nothing(handle)
        wait(handle)
    handle.begin_log()


def _do_nothing(handle: WorkerHandle) -> None:
    handle.app.send_task(_NOTHING, queue=min(handle.queues), ignore_result=False)


def growth_range(spec: BudgetSpec, bytes_grown: int) -> Range:
    """Return the range of a growth of memory in bytes, as it is known after :func:`warm_up`."""
    limit = spec.limits.get("memory")
    noise = _WARM_UP if limit is not None and limit.value >= _HIGH_MEMORY else MEMORY_NOISE
    return Range(float(bytes_grown), float(bytes_grown), noise)
