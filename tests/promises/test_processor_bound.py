"""What more processes are worth to tasks that compute."""

import os
from statistics import median

import psutil
import pytest
from figures import average_at_once, slowed
from promised import compute

PROCESSORS = os.cpu_count() or 1
SIZES = [1, PROCESSORS, 2 * PROCESSORS]

TASKS = 12 * PROCESSORS
MILLISECONDS = 50


def processors_used(burst):
    """How many processors were at work on the tasks, on average."""
    return sum(span.cpu for span in burst.spans) / burst.seconds


@pytest.mark.celery_pools("prefork", concurrency=PROCESSORS, fresh=True)
@pytest.mark.celery_budget(overlap=PROCESSORS)
def test_children_compute_at_once(celery_pool_worker, burst, measured):
    """Processor-bound tasks gain from prefork: as many at once as there are processors, each as fast as alone.

    The time in which other programs had the processors is left out: so it holds on a busy machine too.
    """
    spans = burst(compute, [(MILLISECONDS,)] * TASKS).spans
    together, longer = average_at_once(spans), slowed(spans, MILLISECONDS / 1000)
    sides = f"{PROCESSORS} children on {PROCESSORS} processors"
    measured(f"tasks at once, {sides}", "prefork", together)
    measured(f"time that one took over its processor time, {sides}", "prefork", longer)
    assert together / longer >= 0.75 * PROCESSORS


@pytest.mark.slow
@pytest.mark.celery_pools("prefork", concurrency=2 * PROCESSORS, fresh=True)
@pytest.mark.celery_budget(overlap=2 * PROCESSORS)
def test_more_children_than_processors(celery_pool_worker, burst, measured):
    """Beyond the number of processors nothing is gained: more tasks run at once, and each takes as much longer."""
    found = burst(compute, [(MILLISECONDS,)] * TASKS)
    longer = median(span.runtime / span.cpu for span in found.spans)
    sides = f"{2 * PROCESSORS} children on {PROCESSORS} processors"
    measured(f"processors at work for {sides}", "prefork", processors_used(found))
    measured(f"time that one took over its processor time, {sides}", "prefork", longer)
    assert processors_used(found) <= 1.05 * PROCESSORS
    assert longer >= 1.5


@pytest.mark.benchmark
@pytest.mark.celery_pools("prefork", concurrency=SIZES, fresh=True)
@pytest.mark.celery_budget(makespan=120)
def test_speed_up_by_processes(celery_pool_worker, burst, measured, compared):
    """Processor-bound tasks are done faster by as many children as there are processors, and no faster by more.

    Plain times tell nothing where other programs have the processors: then it is skipped.
    """
    others = psutil.cpu_percent(interval=1.0)
    if others > 25:
        pytest.skip(f"other programs use {others:.0f} % of the processors")
    seconds = min(burst(compute, [(MILLISECONDS,)] * TASKS).seconds for _ in range(8))
    sides = compared(seconds)
    if sides:
        one, enough, too_many = (seconds for _, seconds in sorted(sides.items(), key=lambda side: side[0].slots))
        for slots, taken in zip(SIZES, (one, enough, too_many), strict=True):
            measured(f"speed-up over one child, {slots} children on {PROCESSORS} processors", "prefork", one / taken)
        assert one / enough >= 0.6 * PROCESSORS
        assert enough / too_many <= 1.2
