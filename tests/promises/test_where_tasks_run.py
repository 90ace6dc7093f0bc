"""Which process executes the tasks."""

import psutil
import pytest
from promised import compute, wait

TASKS = 20
GREENLETS = 50


@pytest.mark.celery_pools("prefork", concurrency=2)
@pytest.mark.celery_expect
def test_prefork_worker_only_supervises(celery_pool_worker, measured):
    """Under prefork the worker's own process executes no task, its children do."""
    celery_pool_worker.map(compute, [20] * TASKS)
    executing = [span.pid for span in celery_pool_worker.spans]
    children = {child.pid for child in psutil.Process(celery_pool_worker.pid).children()}
    measured(f"tasks executed by the worker's process, of {TASKS}", "prefork", executing.count(celery_pool_worker.pid))
    measured(f"tasks executed by its children, of {TASKS}", "prefork", sum(pid in children for pid in executing))
    assert set(executing) <= children


@pytest.mark.celery_pools("solo")
@pytest.mark.celery_expect
def test_solo_worker_executes(celery_pool_worker, measured):
    """Under solo the worker's own process executes every task, and has no child."""
    celery_pool_worker.map(compute, [20] * TASKS)
    executing = [span.pid for span in celery_pool_worker.spans]
    children = psutil.Process(celery_pool_worker.pid).children()
    measured(f"tasks executed by the worker's process, of {TASKS}", "solo", executing.count(celery_pool_worker.pid))
    measured("children", "solo", len(children))
    assert set(executing) == {celery_pool_worker.pid}
    assert children == []


@pytest.mark.celery_pools("gevent", "eventlet", concurrency=GREENLETS)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(overlap=GREENLETS // 2)
def test_greenlets_run_in_the_worker(celery_pool_worker, measured):
    """Under gevent and eventlet many tasks at once are all in the worker's own process, and it has no child."""
    pool = celery_pool_worker.pool
    celery_pool_worker.map(wait, [0.3] * GREENLETS)
    executing = [span.pid for span in celery_pool_worker.spans]
    children = psutil.Process(celery_pool_worker.pid).children()
    measured(f"tasks executed by the worker's process, of {GREENLETS}", pool, executing.count(celery_pool_worker.pid))
    measured("children", pool, len(children))
    assert set(executing) == {celery_pool_worker.pid}
    assert children == []
