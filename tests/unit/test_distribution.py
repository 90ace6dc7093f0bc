"""Tests are spread over xdist's nodes by pool, and all of them run."""

import itertools
import random
from collections import deque
from types import SimpleNamespace

import pytest

from pytest_celerypool.distribution import PoolScheduling

POOLS = ("prefork", "solo", "threads", "gevent", "eventlet")


class Node:
    """A node as xdist's is: it runs a test once it knows the next one, or that there is none."""

    def __init__(self, number):
        self.gateway = SimpleNamespace(id=f"gw{number}")
        self.shutting_down = False
        self.waiting = deque()
        self.ran = []

    def send_runtest_some(self, indices):
        assert not self.shutting_down
        self.waiting.extend(indices)

    def shutdown(self):
        self.shutting_down = True

    @property
    def can_run(self):
        return bool(self.waiting) and (len(self.waiting) > 1 or self.shutting_down)


def distribute(tests, count, seconds, chance=None):
    """Run tests on nodes until they stand still, and return the nodes."""
    config = SimpleNamespace(getvalue=lambda name: ["popen"] * count, getoption=lambda name: None)
    scheduling = PoolScheduling(config, SimpleNamespace(loadsched=lambda *_: None), POOLS)
    nodes = [Node(number) for number in range(count)]
    for node in nodes:
        scheduling.add_node(node)
    for node in nodes:
        scheduling.add_node_collection(node, tests)
    scheduling.schedule()
    while True:
        if scheduling.tests_finished:
            for node in nodes:
                node.shutdown()
        able = [node for node in nodes if node.can_run]
        if not able:
            return nodes
        node = able[0] if chance is None else chance.choice(able)
        index = node.waiting.popleft()
        node.ran.append(tests[index])
        scheduling.mark_test_complete(node, index, seconds)


def ran(nodes):
    return sorted(itertools.chain.from_iterable(node.ran for node in nodes))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_one_test_under_every_pool_runs_under_each(count):
    tests = [f"t.py::test_it[{pool}]" for pool in POOLS]
    assert ran(distribute(tests, count, 0.1)) == sorted(tests)


@pytest.mark.parametrize("seed", range(300))
def test_every_test_runs_whatever_there_is_to_spread(seed):
    chance = random.Random(seed)
    tests = [f"t.py::test_{number}[{pool}]" for pool in POOLS for number in range(chance.choice((0, 1, 1, 2, 12)))]
    tests += [f"t.py::test_plain_{number}" for number in range(chance.choice((0, 0, 0, 3)))]
    nodes = distribute(tests, chance.randint(1, 5), chance.choice((0.001, 0.2, 5.0)), chance)
    assert ran(nodes) == sorted(tests)


def test_a_node_keeps_to_the_pools_that_it_has():
    tests = [f"t.py::test_{number}[{pool}]" for pool in ("solo", "gevent") for number in range(40)]
    one, other = ({test.partition("[")[2] for test in node.ran} for node in distribute(tests, 2, 0.01))
    assert (one, other) == ({"solo]"}, {"gevent]"})
