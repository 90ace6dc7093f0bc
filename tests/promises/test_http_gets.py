"""Many questions to a server that takes its time: what slots are worth to tasks that wait."""

import os

import psutil
import pytest
from promised import fetch

PROCESSORS = os.cpu_count() or 1
SLOTS = 500

#: Seconds after which the server answers: what many services need, and a slow one.
QUICK, SLOW = 0.2, 1.0

#: GETs for green pools, and the most that a prefork is given; so many a slot, since all would take minutes.
GETS = 2000
SHARE = 8

#: Bytes that a child of prefork needs; half of the memory is for children.
CHILD = 26 * 2**20
SIZES = [size for size in (2, 8, 32, 64, 128, 256, 384) if size * CHILD < psutil.virtual_memory().total / 2]

#: So many children are many for two processors, and these are too many for any that have no more.
MANY, TOO_MANY = 64, 256

FEW = ("test_few_gets_by_prefork", "test_few_gets_by_greenlets")
ALL = ("test_gets_by_prefork", "test_gets_by_greenlets")


def rates(sides, *pools):
    """The tasks a second of the sides of some pools."""
    return [rate for side, rate in sides.items() if side.pool in pools]


def check_few(sides):
    """Each green pool is a multiple faster, and the two differ less than that."""
    processes, green = rates(sides, "prefork"), rates(sides, "gevent", "eventlet")
    if processes and green:
        assert min(green) >= 4 * max(processes)
        assert max(green) <= 3 * min(green)


@pytest.mark.celery_pools("prefork", concurrency=2 * PROCESSORS)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=60)
def test_few_gets_by_prefork(celery_pool_worker, burst, slow_server, measured, compared):
    """Prefork asks as many at a time as it has children."""
    found = burst(fetch, [(slow_server(SLOW),)] * 4 * PROCESSORS)
    measured(f"GETs of {SLOW:g} s, {2 * PROCESSORS} slots", "prefork", found.rate, "a second")
    assert found.rate <= 2 * PROCESSORS / SLOW
    check_few(compared(found.rate, *FEW))


@pytest.mark.celery_pools("gevent", "eventlet", concurrency=SLOTS)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(overlap=SLOTS // 4, makespan=60)
def test_few_gets_by_greenlets(celery_pool_worker, burst, slow_server, measured, compared):
    """With 500 slots gevent and eventlet do HTTP GETs a multiple faster than prefork with two children a processor."""
    found = burst(fetch, [(slow_server(SLOW),)] * SLOTS)
    measured(f"GETs of {SLOW:g} s, {SLOTS} slots", celery_pool_worker.pool, found.rate, "a second")
    check_few(compared(found.rate, *FEW))


def gets(celery_pool_worker, burst, slow_server, measured, count):
    """Note what the worker makes of GETs from the quick server and from the slow one; returns its rates."""
    pool, slots = celery_pool_worker.pool, celery_pool_worker.concurrency
    burst(fetch, [(slow_server(QUICK),)] * slots)  # every slot has run
    rate = {}
    for delay in (QUICK, SLOW):
        found = burst(fetch, [(slow_server(delay),)] * count)
        rate[delay] = found.rate
        measured(f"GETs of {delay:g} s, {slots} slots", pool, found.rate, "a second")
        measured(
            f"of what so many slots could do, GETs of {delay:g} s, {slots} slots",
            pool,
            100 * found.rate * delay / slots,
            "%",
        )
        measured(
            f"processor time of the main process, a GET of {delay:g} s, {slots} slots",
            pool,
            1000 * found.own / count,
            "ms",
        )
    measured(f"memory of the worker, {slots} slots", pool, memory(celery_pool_worker.pid), "MiB")
    return rate


def memory(pid):
    """The MiB that only the processes of a worker use."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().uss for process in processes) / 2**20


def check_all(sides):
    """Green pools against every size of prefork, and against each other."""
    green = [rate[SLOW] for side, rate in sides.items() if side.pool != "prefork"]
    processes = {side.slots: rate[SLOW] for side, rate in sides.items() if side.pool == "prefork"}
    if not green or not processes:
        return
    assert max(green) <= 2 * min(green)
    assert min(green) > max(processes.values())
    assert min(green) >= 2 * max(rate for slots, rate in processes.items() if slots <= MANY)
    most = max(processes)
    if most >= TOO_MANY:
        assert processes[most] / most < 0.85 * processes[32] / 32


@pytest.mark.benchmark
@pytest.mark.celery_pools("prefork", concurrency=SIZES, fresh=True)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=600)
def test_gets_by_prefork(celery_pool_worker, burst, slow_server, measured, compared):
    """Each further child of prefork adds less to the HTTP GETs a second than the one before."""
    count = min(GETS, SHARE * celery_pool_worker.concurrency)
    check_all(compared(gets(celery_pool_worker, burst, slow_server, measured, count), *ALL))


@pytest.mark.benchmark
@pytest.mark.celery_pools("gevent", "eventlet", concurrency=SLOTS, fresh=True)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=600)
def test_gets_by_greenlets(celery_pool_worker, burst, slow_server, measured, compared):
    """Thousands of slow HTTP GETs finish under gevent and eventlet faster than under any size of prefork."""
    check_all(compared(gets(celery_pool_worker, burst, slow_server, measured, GETS), *ALL))
