"""What the agent costs the tasks of a worker, against ``celery worker`` with the same flags on the same server.

Both workers of a pair take turns, so that whatever else the machine does strikes both. Two workers of the same kind
differ by up to a tenth as long as they live (their memory is laid out differently), so throughput is measured on many
pairs, each for a short time. Beside the agent's records the comparison holds what lets a worker stop fast
(``agent/waits.py``): the worker with the agent asks its broker ten times a second, not once, while it has nothing to
do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, TypeVar

import psutil
import pytest

pytestmark = pytest.mark.benchmark

#: Rounds of :func:`test_time_in_the_slot` and tasks in each, then pairs of :func:`test_throughput` and rounds of each.
SLOT_ROUNDS = 60
TASKS = 25
PAIRS, ROUNDS = 20, 3
WALL, CPU = 0, 1
POOLS = ("prefork", "solo", "threads", "gevent", "eventlet")

#: Slots, as the plugin gives them on two processors, and tasks for about a third of a second: short rounds, so
#: that both sides of a pair meet the same neighbours.
LOADS = {"prefork": (2, 50), "solo": (1, 30), "threads": (8, 120), "gevent": (100, 100), "eventlet": (100, 100)}

T = TypeVar("T")


@pytest.mark.parametrize("pool", POOLS)
def test_time_in_the_slot(pool: str, lab: Any, show: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task takes at most 100 µs more of its slot's time: the agent's records of its start and its end.

    Judged by processor time, since the agent waits for nothing: what the wall clock adds to it is the time in
    which other processes had the processor, and is shown beside it.

    Both sides share one result backend among their slots. With Celery's defaults every greenlet makes one of
    its own and connects it, which takes milliseconds that differ by more than what is looked for, and about
    fifty switches of 1.5 µs each for the agent to see; :func:`test_throughput` has the defaults.
    """
    monkeypatch.setenv("BENCH_SHARED_BACKEND", "1")
    ours, theirs = lab.with_agent(pool, 1).client, lab.bare(pool, 1).client
    mine, bare = _in_turn(
        SLOT_ROUNDS, lambda: _medians(ours.slot_times(TASKS)), lambda: _medians(theirs.slot_times(TASKS))
    )
    wall, cpu = (
        median(one[clock] - other[clock] for one, other in zip(mine, bare, strict=True)) for clock in (WALL, CPU)
    )
    show(
        f"agent in the slot, {pool}",
        f"{cpu:.0f} µs of processor time a task, {wall:.0f} µs by the wall clock",
        "at most 100 µs",
        show.Figures("processor time with the agent", [pair[CPU] for pair in mine], "µs"),
        show.Figures("processor time, bare worker", [pair[CPU] for pair in bare], "µs"),
        show.Figures("wall clock with the agent", [pair[WALL] for pair in mine], "µs"),
        show.Figures("wall clock, bare worker", [pair[WALL] for pair in bare], "µs"),
    )
    assert cpu <= 100


@pytest.mark.parametrize("pool", POOLS)
def test_throughput(pool: str, lab: Any, show: Any) -> None:
    """Tasks of 10 ms go through at 0.95 of the bare worker's rate or more, from a full queue to the last end.

    The processor time that the worker and its children took for a task is shown beside it: on a busy machine it
    is the steadier figure of the two.
    """
    slots, count = LOADS[pool]
    mine: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    ratios = []
    for _ in range(PAIRS):
        pair = _pair(lab, pool, slots, count)
        for side, more in zip((mine, bare), pair, strict=True):
            side += more
        one, other = (median(rate for rate, _ in each) for each in pair)
        ratios.append(one / other)
    ratio = median(ratios)
    cpu = [sum(used for _, used in side) / len(side) / count * 1e6 for side in (mine, bare)]
    show(
        f"agent and throughput, {pool} with {slots} slots, {count} tasks of 10 ms",
        f"{ratio:.3f} of the bare worker's, {cpu[0]:.0f} against {cpu[1]:.0f} µs of processor time a task",
        "at least 0.95",
        show.Figures("ratio of each pair", ratios, ""),
        show.Figures("with the agent", [rate for rate, _ in mine], "tasks/s"),
        show.Figures("bare worker", [rate for rate, _ in bare], "tasks/s"),
    )
    assert ratio >= 0.95


def _pair(lab: Any, pool: str, slots: int, count: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Load a new worker with the agent and a new one without in turn, and end both."""
    ours, theirs = lab.with_agent(pool, slots), lab.bare(pool, slots)
    try:
        return _in_turn(
            ROUNDS,
            lambda: _load(ours.client, ours.launched.pid, count),
            lambda: _load(theirs.client, theirs.pid, count),
        )
    finally:
        ours.close()
        theirs.close()


def _load(client: Any, pid: int, count: int) -> tuple[float, float]:
    """Return tasks a second, and the seconds of processor time that the worker took for all of them."""
    before = _processor_time(pid)
    rate = count / client.makespan(count, 0.01)
    return rate, _processor_time(pid) - before


def _processor_time(pid: int) -> float:
    """Return the seconds of processor time that a process and its children have taken so far."""
    worker = psutil.Process(pid)
    times = [process.cpu_times() for process in (worker, *worker.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _medians(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the medians of wall and processor time in µs."""
    return median(wall for wall, _ in times) * 1e6, median(cpu for _, cpu in times) * 1e6


def _in_turn(rounds: int, one: Callable[[], T], other: Callable[[], T]) -> tuple[list[T], list[T]]:
    """Measure both sides in each round, in an order that changes; a first round for warmth does not count."""
    mine: list[T] = []
    theirs: list[T] = []
    sides = [(mine, one), (theirs, other)]
    for number in range(rounds + 1):
        for values, measure in sides if number % 2 else sides[::-1]:
            values.append(measure())
    return mine[1:], theirs[1:]
