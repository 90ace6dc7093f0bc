"""What a slot costs in memory."""

import psutil
import pytest
from promised import wait

CHILDREN = 2
GREENLETS = 200

MIB = 2**20
BOTH = ("test_memory_of_a_child", "test_memory_of_a_greenlet")


def own_memory(pid):
    """The bytes that only this process uses."""
    return psutil.Process(pid).memory_full_info().uss


def check(sides):
    """A greenlet needs less than a tenth of what a child needs."""
    child = [size for side, size in sides.items() if side.pool == "prefork"]
    greenlets = [size for side, size in sides.items() if side.pool != "prefork"]
    assert all(size < each / 10 for size in greenlets for each in child)


@pytest.mark.slow
@pytest.mark.celery_pools("prefork", concurrency=CHILDREN)
@pytest.mark.celery_expect
def test_memory_of_a_child(celery_pool_worker, measured, compared):
    """A slot of prefork is a process, and needs the memory of one."""
    celery_pool_worker.map(wait, [0.2] * 4 * CHILDREN)
    children = psutil.Process(celery_pool_worker.pid).children()
    size = sum(own_memory(child.pid) for child in children) / CHILDREN
    measured("memory of a further slot", "prefork", size / MIB, "MiB")
    check(compared(size, *BOTH))
    assert len(children) == CHILDREN


@pytest.mark.slow
@pytest.mark.celery_pools("gevent", "eventlet", concurrency=GREENLETS)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(overlap=GREENLETS)
def test_memory_of_a_greenlet(celery_pool_worker, measured, compared, until):
    """A slot of gevent or eventlet needs a fraction of a child's memory."""
    celery_pool_worker.map(wait, [0.1] * 10)  # what is imported late is nobody's
    idle, before = own_memory(celery_pool_worker.pid), len(celery_pool_worker.spans)
    for _ in range(GREENLETS):
        celery_pool_worker.submit(wait, 2.0)
    until(lambda: len(celery_pool_worker.spans) == before + GREENLETS)
    size = (own_memory(celery_pool_worker.pid) - idle) / GREENLETS
    measured("memory of a further slot", celery_pool_worker.pool, size / MIB, "MiB")
    check(compared(size, *BOTH))
