"""What a pool itself costs, where tasks cost nothing."""

import pytest
from figures import processor_time
from promised import nothing

from pytest_celerypool.pools import POOLS

ALONE = 20
TURNS = 6

TASKS = 1500
ROUNDS = 3


@pytest.fixture
def workers(celery_pool_cluster):
    """A worker of each pool with one slot, by the name of its pool, which is that of its queue too."""
    names = [pool.name for pool in POOLS]
    return celery_pool_cluster({name: {"pool": name, "queues": [name], "concurrency": 1} for name in names})


@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=60)
def test_hand_over(workers, measured):
    """Solo has the least overhead: from the receipt of a task to its start in the slot less passes than elsewhere.

    The least of many is taken, of all pools in turn: what other programs do can only make it longer.
    """
    for _ in range(TURNS):
        for name in workers:
            for _ in range(ALONE):
                workers.run(nothing.s().set(queue=name))
    least = {name: min(span.started - span.received for span in workers[name].spans) for name in workers}
    for name in workers:
        measured("from receipt to start, at least", name, 1e6 * least[name], "µs")
    assert least.pop("solo") < 0.8 * min(least.values())


@pytest.mark.benchmark
@pytest.mark.celery_expect
def test_processor_time(workers, measured):
    """Solo uses the least processor time for a task that does nothing, all processes of the worker together."""

    def seconds(pool, count):
        """The processor time that a worker uses for one of so many tasks."""
        before, _ = processor_time(workers[pool].pid)
        for _ in range(count):
            nothing.apply_async(queue=pool)
        workers.drain(60)
        after, _ = processor_time(workers[pool].pid)
        return (after - before) / count

    rounds = [{name: seconds(name, TASKS) for name in workers} for _ in range(ROUNDS)]
    least = {name: min(each[name] for each in rounds) for name in workers}
    for name in workers:
        measured("processor time a task that does nothing", name, 1e6 * least[name], "µs")
    assert least.pop("solo") < min(least.values())
