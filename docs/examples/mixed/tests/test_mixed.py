"""What the tasks do, and what each kind needs of its pool."""

import pytest
from mixed import count_primes, fetch


# A chain goes through both queues, and every pool comes to the same.
@pytest.mark.celery_expect(state="SUCCESS", agree=True)
def test_chain(site, celery_pool_worker):
    assert celery_pool_worker.run(fetch.s(f"{site}/20000") | count_primes.s()) == 2262


# Waiting takes a slot and next to no processor time: many slots in one process do it side by side.
@pytest.mark.celery_pools("threads", "gevent", "eventlet", concurrency=20)
@pytest.mark.celery_budget(overlap=5, cpu="100ms")
@pytest.mark.celery_budget(hold="50ms")
def test_waiting_needs_slots(site, celery_pool_worker):
    celery_pool_worker.map(fetch, [f"{site}/{number}" for number in range(20)])


# Computing takes a processor, and so a process for each.
@pytest.mark.celery_pools("prefork", concurrency=2)
@pytest.mark.celery_budget(overlap=2)
def test_computing_needs_processes(celery_pool_worker):
    celery_pool_worker.map(count_primes, [50_000] * 4)
    assert len({span.pid for span in celery_pool_worker.spans}) == 2


# Why they need a worker each: in a process of greenlets, who computes stops all who wait. The plugin finds that, and
# would fail the test; here it is shown on purpose.
@pytest.mark.celery_pools("gevent", "eventlet")
@pytest.mark.celery_allow("hub-busy", reason="in production count_primes has a worker of its own")
def test_who_computes_stops_who_waits(site, celery_pool_worker):
    waiting = [celery_pool_worker.submit(fetch, f"{site}/{number}") for number in range(5)]
    celery_pool_worker.run(count_primes, 300_000)
    assert [result.get() for result in waiting] == list(range(5))
    assert {finding.kind for finding in celery_pool_worker.findings} == {"hub-busy"}


# With a worker each, as in production: a task goes to the worker of its queue, and who waits is not stopped. Nothing is
# allowed here, so that the finding of the test above would fail this one.
@pytest.mark.celery_expect(state="SUCCESS", tasks="mixed.count_primes", worker="cpu")
@pytest.mark.celery_expect(state="SUCCESS", tasks="mixed.fetch", worker="io")
@pytest.mark.celery_budget(overlap=5, tasks="mixed.fetch")
def test_a_worker_each(site, workers):
    counting = [workers.submit(count_primes, 300_000) for _ in range(2)]
    assert workers.map(fetch, [f"{site}/{number}" for number in range(20)]) == list(range(20))
    assert [result.get() for result in counting] == [25997, 25997]


# What one worker has done, the other goes on with.
def test_chain_through_both(site, workers):
    assert workers.run(fetch.s(f"{site}/20000") | count_primes.s()) == 2262
    assert [(span.task, span.worker) for span in workers.spans] == [
        ("mixed.fetch", "io"),
        ("mixed.count_primes", "cpu"),
    ]
