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

#: Children of which each still does what it could; many; and so many that each does less.
FEW_ENOUGH, MANY, TOO_MANY = 32, 64, 256

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


@pytest.mark.slow
@pytest.mark.celery_pools("prefork", concurrency=2 * PROCESSORS)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=60)
def test_few_gets_by_prefork(celery_pool_worker, burst, slow_server, measured, compared):
    """Prefork asks as many at a time as it has children."""
    found = burst(fetch, [(slow_server(SLOW),)] * 4 * PROCESSORS)
    measured(f"GETs of {SLOW:g} s, {2 * PROCESSORS} slots", "prefork", found.rate, "a second")
    assert found.rate <= 2 * PROCESSORS / SLOW
    check_few(compared(found.rate, *FEW))


@pytest.mark.slow
@pytest.mark.celery_pools("gevent", "eventlet", concurrency=SLOTS)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(overlap=SLOTS // 4, makespan=60)
def test_few_gets_by_greenlets(celery_pool_worker, burst, slow_server, measured, compared):
    """With 500 slots gevent and eventlet do HTTP GETs a multiple faster than prefork with two children a processor."""
    found = burst(fetch, [(slow_server(SLOW),)] * SLOTS)
    measured(f"GETs of {SLOW:g} s, {SLOTS} slots", celery_pool_worker.pool, found.rate, "a second")
    check_few(compared(found.rate, *FEW))


def gets(celery_pool_worker, burst, slow_server, measured, count):
    """Note what the worker makes of GETs from the quick server and from the slow one.

    Returns the GETs a second from the slow one, and the seconds of processor time that the main process used for each.
    """
    side = f"{celery_pool_worker.pool} {celery_pool_worker.concurrency}"
    burst(fetch, [(slow_server(QUICK),)] * celery_pool_worker.concurrency)  # every slot has run
    quick, slow = (burst(fetch, [(slow_server(delay),)] * count) for delay in (QUICK, SLOW))
    own = (quick.own + slow.own) / (2 * count)
    measured(f"GETs of {QUICK:g} s, a second", side, quick.rate)
    measured(f"GETs of {SLOW:g} s, a second", side, slow.rate)
    measured("memory of the worker, MiB", side, memory(celery_pool_worker.pid))
    measured("processor time of its main process a GET, ms", side, 1000 * own)
    return slow.rate, own


def memory(pid):
    """The MiB that only the processes of a worker use."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().uss for process in processes) / 2**20


def check_all(sides):
    """Green pools against every size of prefork, and against each other; and what becomes of many children."""
    green = [rate for side, (rate, _) in sides.items() if side.pool != "prefork"]
    processes = {side.slots: found for side, found in sides.items() if side.pool == "prefork"}
    if not green or not processes:
        return
    rates = {slots: rate for slots, (rate, _) in processes.items()}
    assert max(green) <= 2 * min(green)
    assert min(green) > max(rates.values())
    assert min(green) >= 2 * max(rate for slots, rate in rates.items() if slots <= MANY)
    most = max(processes)
    if most >= TOO_MANY:
        assert rates[most] / most < 0.85 * rates[FEW_ENOUGH] / FEW_ENOUGH
        assert processes[most][1] > 1.4 * processes[FEW_ENOUGH][1]


@pytest.mark.benchmark
@pytest.mark.celery_pools("prefork", concurrency=SIZES, fresh=True)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=600)
def test_gets_by_prefork(celery_pool_worker, burst, slow_server, measured, compared):
    """The more children prefork has, the less each adds, and the more a GET costs the process that supervises them."""
    count = min(GETS, SHARE * celery_pool_worker.concurrency)
    check_all(compared(gets(celery_pool_worker, burst, slow_server, measured, count), *ALL))


@pytest.mark.benchmark
@pytest.mark.celery_pools("gevent", "eventlet", concurrency=SLOTS, fresh=True)
@pytest.mark.celery_expect
@pytest.mark.celery_budget(makespan=600)
def test_gets_by_greenlets(celery_pool_worker, burst, slow_server, measured, compared):
    """Thousands of slow HTTP GETs finish under gevent and eventlet faster than under any size of prefork."""
    check_all(compared(gets(celery_pool_worker, burst, slow_server, measured, GETS), *ALL))
