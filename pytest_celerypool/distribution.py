"""Spread tests over xdist's nodes so that the tests of one pool prefer to stay together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from xdist.scheduler import LoadScheduling

from pytest_celerypool.keys import SETTINGS
from pytest_celerypool.pools import POOLS

#: A node runs a test only once it knows the next one: with fewer tests than these it waits for more, or for the end.
_RUNS = 2

#: Seconds that the start of a worker costs, on a machine that runs several at once.
_START_S = 1.5


class PoolScheduling(LoadScheduling):  # type: ignore[misc]
    """xdist's ``load`` distribution, but a node gets tests of the pools whose workers it already has.

    Tests without a pool are handed out exactly as xdist does it.
    """

    def __init__(self, config: pytest.Config, log: Any, names: tuple[str, ...]) -> None:
        super().__init__(config, log)
        self._names = names
        self._pools_of: dict[Any, set[str]] = {}
        self._seconds: dict[str, list[float]] = {}

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Learn how long the tests of a pool take."""
        pool = self._pool(item_index)
        if pool is not None:
            self._seconds.setdefault(pool, []).append(duration)
        super().mark_test_complete(node, item_index, duration)

    def remove_node(self, node: Any) -> Any:
        """Forget a node that crashed or ended, so that its pools are nobody's."""
        self._pools_of.pop(node, None)
        return super().remove_node(node)

    def _send_tests(self, node: Any, num: int) -> None:
        chosen = self._choose(node, num)
        if chosen:
            for index in chosen:
                self.pending.remove(index)
            self.node2pending[node].extend(chosen)
            node.send_runtest_some(chosen)

    def _choose(self, node: Any, num: int) -> list[int]:
        """Return up to `num` of the pending tests for a node."""
        mine = self._pools_of.setdefault(node, set())
        pools = {index: self._pool(index) for index in self.pending}
        own = [index for index in self.pending if pools[index] is None or pools[index] in mine]
        if len(own) >= num or len(own) == len(self.pending):
            chosen = own[:num]
        else:
            least = _RUNS - len(self.node2pending[node]) - len(own)
            chosen = own + self._of_new_pools(node, pools, num - len(own), least)
        mine.update(pool for index in chosen if (pool := pools[index]) is not None)
        return chosen

    def _of_new_pools(self, node: Any, pools: dict[int, str | None], num: int, least: int) -> list[int]:
        """Take the tests of a pool that no other node has; only then, and if it pays, help another with its own.

        :param least: so many are wanted, of several pools if need be, lest all nodes wait for more tests. What is left
            of a pool that another node has is never stuck there: that fills up with its own to what it needs to run.
        """
        taken = set().union(*(found for other, found in self._pools_of.items() if other is not node))
        mine = self._pools_of[node]
        counts = Counter(pool for pool in pools.values() if pool is not None and pool not in mine)
        order = sorted(counts, key=lambda pool: (pool in taken, -counts[pool]))
        found: list[int] = []
        for pool in order:
            if len(found) >= max(least, 1):
                break
            if pool not in taken or self._pays(pool, counts[pool]):
                found += [index for index in self.pending if pools[index] == pool]
        return found[:num]

    def _pays(self, pool: str, count: int) -> bool:
        """Whether half of what is left of a pool takes longer than the start of another worker for it."""
        import statistics  # not above: a controller of xdist loads this module in every run

        known = self._seconds.get(pool) or [seconds for times in self._seconds.values() for seconds in times]
        return not known or count * statistics.median(known) / 2 > _START_S

    def _pool(self, index: int) -> str | None:
        """Return the pool in a test's id, ``None`` if there is none."""
        assert self.collection is not None
        _, bracket, ids = self.collection[index].partition("[")
        if not bracket:
            return None
        parts = ids.rstrip("]").split("-")
        return next((name for name in self._names if name in parts or name in ids), None)


def make_scheduler(config: pytest.Config, log: Any) -> PoolScheduling:
    """Return the distribution for the pools of a run; where nobody chose any, the tests' markers name Celery's own."""
    settings = config.stash.get(SETTINGS, None)
    chosen = settings.pools if settings is not None else None
    return PoolScheduling(config, log, tuple(pool.name for pool in chosen or POOLS))
