"""What a test does to its worker by remote control, and where its messages go, reaches no other test."""

import re

import pytest

APP = """
import time
from celery import Celery
from kombu import Exchange, Queue

app = Celery("proj", broker="redis://no.such.host", backend="redis://no.such.host")
app.conf.task_queues = [Queue("celery"), Queue("topics", Exchange("ax", type="topic"), routing_key="a.#")]

@app.task
def add(x, y):
    return x + y

@app.task
def nap(seconds):
    time.sleep(seconds)

@app.task(ignore_result=True)
def limits_another():
    app.control.rate_limit("proj.add", "1/m")
"""

SUITE = """
import pytest
from celery.exceptions import TimeoutError
from proj import add, app, limits_another, nap

pids = {}

def quick():
    assert [add.delay(1, number).get(timeout=5) for number in range(3)] == [1, 2, 3]

def test_rate_limit(celery_pool_worker):
    app.control.rate_limit("proj.add", "1/m", reply=True)

def test_after_rate_limit(celery_pool_worker):
    quick()

def test_rate_limit_unheard(celery_pool_worker):
    app.control.rate_limit("proj.add", "1/m")

def test_after_rate_limit_unheard(celery_pool_worker):
    quick()

def test_rate_limit_by_a_task(celery_pool_worker):
    celery_pool_worker.run(limits_another)

def test_after_rate_limit_by_a_task(celery_pool_worker):
    quick()

def test_time_limit(celery_pool_worker):
    app.control.time_limit("proj.nap", hard=0.2, soft=0.1, reply=True)

def test_after_time_limit(celery_pool_worker):
    nap.delay(0.5).get(timeout=5)

def test_cancel(celery_pool_worker):
    app.control.cancel_consumer("celery", reply=True)

def test_after_cancel(celery_pool_worker):
    quick()

@pytest.mark.celery_pools(exclude=["solo"])
def test_shrink(celery_pool_worker):
    app.control.pool_shrink(1, reply=True)

@pytest.mark.celery_pools(exclude=["solo"])
@pytest.mark.celery_budget(overlap=2, tasks="proj.nap")
def test_after_shrink(celery_pool_worker):
    celery_pool_worker.map(nap, [0.4, 0.4])

@pytest.mark.celery_pools(exclude=["gevent"])  # which may have asked Redis for one message more
def test_paused_and_resumed(celery_pool_worker):
    app.control.cancel_consumer("celery", reply=True)
    result = add.delay(1, 2)
    with pytest.raises(TimeoutError):
        result.get(timeout=1.5)
    app.control.add_consumer("celery")
    assert result.get(timeout=5) == 3

def test_looks_on(celery_pool_worker):
    pids["looks on"] = celery_pool_worker.pid
    assert app.control.ping(destination=[celery_pool_worker.hostname])
    app.control.inspect(timeout=0.3).registered()
    app.control.revoke("some-id")
    assert add.apply_async((1, 2), queue="elsewhere").get(timeout=5) == 3

def test_after_looks_on(celery_pool_worker):
    assert celery_pool_worker.pid == pids["looks on"]
    assert add.apply_async((1, 2), queue="elsewhere").get(timeout=5) == 3
"""

WRONG = """
import pytest
from proj import add, app

def test_behind_its_rate_limit(celery_pool_worker):
    app.control.rate_limit("proj.add", "1/m", reply=True)
    celery_pool_worker.run(add, 1, 2)
    celery_pool_worker.run(add, 1, 2, timeout=1)

def test_cancelled(celery_pool_worker):
    app.control.cancel_consumer("celery", reply=True)
    add.delay(1, 2).get()

def test_unroutable(celery_pool_worker):
    add.apply_async((1, 2), exchange="ax", routing_key="nobody").get()

def test_unknown_exchange(celery_pool_worker):
    add.apply_async((1, 2), exchange="nope", routing_key="x").get()

@pytest.mark.celery_expect
def test_unroutable_and_expected():
    add.apply_async((1, 2), exchange="ax", routing_key="nobody")

def test_exchange_undeclared(celery_pool_worker):
    celery_pool_worker.run(add.s(1, 2).set(exchange="ax", routing_key="a.b.c"), timeout=1)

def test_declared_with_its_queue(celery_pool_worker):
    assert add.apply_async((1, 2), queue="topics", routing_key="a.b.c").get(timeout=5) == 3

@pytest.mark.celery_pools(options="-Q celery")
def test_left(celery_pool_worker):
    add.s(1, 2).set(queue="mail").delay()

@pytest.mark.celery_pools(options="-Q celery")
def test_left_too(celery_pool_worker):
    add.s(1, 2).set(queue="mail").delay()
"""


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize(
    ("pools", "launch"),
    [("prefork,gevent", "subprocess"), ("solo,threads", "subprocess"), ("solo,gevent", "inprocess")],
    ids=["subprocess", "further pools", "inprocess"],
)
def test_what_one_test_does_by_remote_control_does_not_reach_the_next(project, pools, launch):
    run = project.write(proj=APP, test_it=SUITE).run(
        f"--celery-pools={pools}",
        f"--celery-launch={launch}",
        "--celery-app=proj:app",
        "--celery-concurrency=2",
        "--celery-timeout=5",
        timeout=240,
    )
    assert {test: outcome for test, outcome in run.outcomes().items() if outcome != "passed"} == {}, run.output


@pytest.fixture(scope="module")
def wrong(shared_project):
    return shared_project.write(proj=APP, test_it=WRONG).run(
        "--celery-pools=solo", "--celery-app=proj:app", "--celery-timeout=5", timeout=120
    )


NOBODY = "went to the exchange 'ax' with the routing key 'nobody', to which no queue of the application is bound"


@pytest.mark.parametrize(
    ("test", "text"),
    [
        ("test_behind_its_rate_limit", "was received and waits for its rate limit of 1/m (0 of 1 are busy)"),
        ("test_cancelled", "lies in the queue 'celery', which nobody consumes since cancel_consumer (this worker"),
        ("test_unroutable", NOBODY),
        ("test_unroutable_and_expected", f"expected state=SUCCESS, not ended: it {NOBODY}"),
        ("test_unknown_exchange", "went to the exchange 'nope' with the routing key 'x', to which no queue"),
        ("test_exchange_undeclared", "to which the queue 'topics' is bound, and was not received yet. On Redis kombu"),
    ],
)
def test_it_is_said_at_once_what_a_task_waits_for(wrong, test, text):
    assert text in wrong.failure(f"{test}[solo]")
    (call,) = [each for each in wrong.reports if f"::{test}[" in each["nodeid"] and each["when"] == "call"]
    assert call["seconds"] < 3.5


def test_a_topic_is_reached_through_its_queue(wrong):
    assert wrong.outcomes()["test_declared_with_its_queue[solo]"] == "passed"


def test_the_end_of_the_run_names_the_queue_of_what_was_left(wrong):
    said = " ".join(wrong.output.split())
    assert re.search(
        r"test_left\[solo\] and 1 more test passed and left proj\.add, which lies in the queue 'mail', which nobody "
        r"consumes \(this worker consumes: celery\); the worker was replaced",
        said,
    ), wrong.output
