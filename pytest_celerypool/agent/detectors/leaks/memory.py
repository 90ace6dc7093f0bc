"""Memory that grows with each execution of a task, and the container of the user's that grows with it.

The resident memory of the process is read at the end of each task anyway. Only where it has grown at two ends in
succession are the user's containers counted. Memory alone proves nothing, since a cache fills and a process warms up:
a finding names the container, which nothing is ever taken out of.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.code.places import CACHED
from pytest_celerypool.agent.detectors.holders import Reached, additions, is_emptied, made_at, uses, walk
from pytest_celerypool.agent.detectors.sharing.cached import is_plain, keys_of
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: Executions that must each have left memory: fewer may be warm-up.
EXECUTIONS = 5

#: The same where a mapping grows: it may be a cache of what there is, with one entry for each.
EXECUTIONS_OF_MAPPING = 8

#: What ``functools.cache`` makes is one too: it holds each object that it was ever called with.
_CONTAINERS = (list, dict, set, deque, bytearray, CACHED)


class Growth(NamedTuple):
    """What one execution of a task added.

    :ivar memory: bytes of the process.
    :ivar number: how many executions of the task had ended by then.
    :ivar sizes: the length of each of the user's containers afterwards, by identity.
    """

    run: str
    memory: int
    number: int
    sizes: dict[int, int] | None


class Memory(Detector):
    """Sees memory that grows with each execution."""

    kinds: ClassVar[Sequence[Kind]] = (
        Kind(
            "growing-memory",
            "fail",
            "each execution of a task adds to a container that nothing is taken out of",
            1 << 20,
            "bytes",
        ),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._running = watch.recorder.running
        self._forget()

    def _forget(self) -> None:
        self._last: int | None = None
        self._since: str | None = None
        self._limit = self.watch.limit("growing-memory")
        self._grown: dict[str, list[Growth]] = {}
        self._ended: dict[str, int] = {}
        self._reported: set[str] = set()

    def forked(self) -> None:
        """Begin anew: the memory of a child is its own."""
        self._forget()

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Compare with the end before, if no other task ran in between."""
        name = run.task.name
        self._ended[name] = self._ended.get(name, 0) + 1
        if self._running:
            self._since = ""
            return
        last, self._last = self._last, run.memory
        alone = self._since != ""
        self._since = None
        if last is None or run.memory is None or not alone:
            return
        grown = run.memory - last
        if grown < self._limit / 2:
            if name in self._grown and grown < self._limit / 8:
                del self._grown[name]
            return
        self._look(name, run, grown)

    def _look(self, name: str, run: Run, grown: int) -> None:
        """An execution has added memory; count the containers from the second one in succession on."""
        history = self._grown.setdefault(name, [])
        found: dict[int, Reached] = {}
        sizes = None
        starts = self.watch.starts
        if history and name not in self._reported:
            found = {
                id(one.value): one
                for one in walk(self.watch.frames, lambda value: issubclass(type(value), _CONTAINERS), depth=3)
            }
            sizes = {identity: _length(one.value) for identity, one in found.items()}
            if self.watch.starts != starts:  # the next one has begun, and may have added its own
                sizes = None
        history.append(Growth(run.id, grown, self._ended[name], sizes))
        del history[: -2 * EXECUTIONS_OF_MAPPING]
        if sizes is not None and len(history) >= EXECUTIONS - 1:
            self._judge(name, run, history, found)

    def _judge(self, name: str, run: Run, history: list[Growth], found: dict[int, Reached]) -> None:
        counted = [growth for growth in history if growth.sizes is not None]
        for identity, reached in found.items():
            sizes = [growth.sizes[identity] for growth in counted if growth.sizes and identity in growth.sizes]
            if len(sizes) < len(counted):
                continue
            # One that ended while the next had begun was not looked at: its share is in the next step.
            numbers = [growth.number for growth in counted]
            steps = {
                (after - before) / (later - earlier)
                for (before, after), (earlier, later) in zip(
                    itertools.pairwise(sizes), itertools.pairwise(numbers), strict=True
                )
            }
            # All that grew by the same number each time, as many times as there were executions.
            if len(steps) != 1 or min(steps) <= 0:
                continue
            mapping = issubclass(type(reached.value), (dict, CACHED))
            needed = EXECUTIONS_OF_MAPPING if mapping and not _by_task(reached, history) else EXECUTIONS
            mean = sum(growth.memory for growth in counted) / len(counted)
            if len(counted) < needed - 2 or mean < self._limit or is_bounded(reached):
                continue
            self._report(name, run, counted, reached, sizes, min(steps))
            return

    def _report(
        self, name: str, run: Run, counted: list[Growth], reached: Reached, sizes: list[int], step: float
    ) -> None:
        self._reported.add(name)
        frames = self.watch.frames
        mib = sum(growth.memory for growth in counted) / len(counted) / (1 << 20)
        # What adds comes first, then what of the task's own leads there.
        use = list(dict.fromkeys([*additions(frames, reached), *uses(frames, reached, getattr(run.task, "run", None))]))
        code = getattr(getattr(reached.value, "__wrapped__", None), "__code__", None)
        made = made_at(frames, reached)
        if code is not None:
            made = [frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)]
        self.watch.report(
            "growing-memory",
            run,
            f"each execution added {step:g} to {reached.path} and {mib:.1f} MiB to its process, and "
            f"nothing takes anything out again: under {self.watch.pool.name} memory grows until the process is killed",
            [
                *(use or ["(no line of the task's own mentions it)"]),
                *made,
                f"size of {reached.path} after the executions: {', '.join(map(str, sizes))}",
                "growth of resident memory: " + ", ".join(f"{one.memory / (1 << 20):.1f} MiB" for one in counted),
                f"process {os.getpid()}, executions {', '.join(growth.run for growth in counted[-3:])}",
            ],
            "keep what one execution needs in the execution, or give the container a bound (deque(maxlen=…), "
            "functools.lru_cache(maxsize=…))",
            key=reached.path,
        )


def _length(container: Any) -> int:
    return container.cache_info().currsize if type(container) is CACHED else len(container)


def _by_task(reached: Reached, history: list[Growth]) -> bool:
    """Whether a mapping has entries under the ids of the tasks, or a cache under objects that never come again."""
    if type(reached.value) is CACHED:
        parts = (part for key in keys_of(reached.value) for part in (key if isinstance(key, tuple) else (key,)))
        return len({id(part) for part in parts if not is_plain(part)}) >= EXECUTIONS - 2
    keys = {str(key) for key in reached.value}
    return any(growth.run in keys for growth in history)


def is_bounded(reached: Reached) -> bool:
    """Whether a container has a bound, or something is taken out of it."""
    value: Any = reached.value
    if type(value) is CACHED and value.cache_parameters()["maxsize"] is not None:
        return True
    return (isinstance(value, deque) and value.maxlen is not None) or is_emptied(reached)
