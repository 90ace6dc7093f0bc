"""What a pool itself costs, where tasks cost nothing."""

import pytest
from figures import processor_time
from promised import nothing

from pytest_celerypool.pools import POOLS

EVERY = pytest.mark.celery_pools(*(pool.name for pool in POOLS), concurrency=1)

ALONE = 100

TASKS = 1500
ROUNDS = 3


@EVERY
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=60)
def test_hand_over(celery_pool_worker, measured, compared):
    """Solo has the least overhead: from the receipt of a task to its start in the slot less passes than elsewhere.

    The least of many is taken: what other programs do can only make it longer.
    """
    pool = celery_pool_worker.pool
    for _ in range(ALONE):
        celery_pool_worker.run(nothing)
    seconds = min(span.started - span.received for span in celery_pool_worker.spans)
    measured("from receipt to start, at least", pool, 1e6 * seconds, "µs")
    sides = {side.pool: seconds for side, seconds in compared(seconds).items()}
    if len(sides) > 1:
        assert sides.pop("solo") < 0.8 * min(sides.values())


@pytest.mark.benchmark
@pytest.mark.celery_expect
def test_processor_time(celery_pool_cluster, measured):
    """Solo uses the least processor time for a task that does nothing, all processes of the worker together."""
    names = [pool.name for pool in POOLS]
    workers = celery_pool_cluster({name: {"pool": name, "queues": [name], "concurrency": 1} for name in names})

    def seconds(pool, count):
        """The processor time that a worker uses for one of so many tasks."""
        before, _ = processor_time(workers[pool].pid)
        for _ in range(count):
            nothing.apply_async(queue=pool)
        workers.drain(60)
        after, _ = processor_time(workers[pool].pid)
        return (after - before) / count

    rounds = [{name: seconds(name, TASKS) for name in names} for _ in range(ROUNDS)]
    least = {name: min(each[name] for each in rounds) for name in names}
    for name in names:
        measured("processor time a task that does nothing", name, 1e6 * least[name], "µs")
    assert least.pop("solo") < min(least.values())
