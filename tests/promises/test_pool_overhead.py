"""What a pool itself costs, where tasks cost nothing."""

import pytest
from promised import nothing

from pytest_celerypool.pools import POOLS

EVERY = pytest.mark.celery_pools(*(pool.name for pool in POOLS), concurrency=1)

ALONE = 100

TASKS = 1000
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
@EVERY
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=120)
def test_processor_time(celery_pool_worker, burst, measured, compared):
    """Solo uses the least processor time for a task that does nothing, all processes of the worker together."""
    pool = celery_pool_worker.pool
    burst(nothing, [()] * 50)
    cpu = min(burst(nothing, [()] * TASKS).cpu for _ in range(ROUNDS)) / TASKS
    measured("processor time a task that does nothing", pool, 1e6 * cpu, "µs")
    sides = {side.pool: seconds for side, seconds in compared(cpu).items()}
    if len(sides) > 1:
        assert sides.pop("solo") < min(sides.values())
