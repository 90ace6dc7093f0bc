"""Each test goes wrong in a way that the page describes."""

import os
import signal
import time

import psutil
import pytest
from proj import app, forget, ignored, nap, stubborn


def test_with_a_worker(celery_pool_worker):
    pass


def test_unregistered(celery_pool_worker):
    celery_pool_worker.run(app.signature("proj.nothing"))


def test_inside_a_function(celery_pool_worker):
    @app.task
    def inside():
        pass

    celery_pool_worker.run(inside)


@pytest.mark.celery_pools(options="-Q celery")
def test_queue_that_nobody_consumes(celery_pool_worker):
    nap.apply_async((0,), queue="mail").get()


def test_exchange_that_leads_nowhere(celery_pool_worker):
    nap.apply_async((0,), exchange="media", routing_key="photos").get()


@pytest.mark.celery_pools(options="-Q celery")
def test_left_where_nobody_consumes(celery_pool_worker):
    nap.apply_async((0,), queue="mail")


def test_rate_limit(celery_pool_worker):
    app.control.rate_limit("proj.nap", "1/m", reply=True)
    celery_pool_worker.map(nap, [0, 0])


def test_eager(celery_pool_worker):
    app.conf.task_always_eager = True
    nap.delay(0)


def test_too_long(celery_pool_worker):
    celery_pool_worker.run(nap, 60)


def test_own_get(celery_pool_worker):
    nap.delay(60).get()


def test_eta(celery_pool_worker):
    nap.apply_async((0,), countdown=3600)
    celery_pool_worker.drain()


def test_ignored(celery_pool_worker):
    ignored.delay().get()


def test_refused(celery_pool_worker):
    nap.apply_async((0,), serializer="pickle").get()


@pytest.mark.celery_expect
def test_expected_to_end():
    nap.delay(60)


def test_left_running(celery_pool_worker):
    nap.delay(60)


@pytest.mark.celery_pools("threads")
@pytest.mark.celery_expect
def test_lost():
    forget.delay()


def test_timeout_of_the_task(celery_pool_worker):
    celery_pool_worker.run(stubborn, timeout=3)


def test_worker_dies(celery_pool_worker):
    result = nap.delay(60)
    deadline = time.monotonic() + 10
    while not celery_pool_worker.spans and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(celery_pool_worker.pid, signal.SIGKILL)
    result.get(timeout=10)


def test_worker_stopped(celery_pool_worker):
    os.kill(celery_pool_worker.pid, signal.SIGSTOP)
    nap.delay(0).get(timeout=0.5)


def test_server_dies(celery_pool_worker):
    result = nap.delay(60)
    (server,) = [child for child in psutil.Process().children() if "server" in child.name()]
    server.kill()
    result.get(timeout=10)


@pytest.mark.celery_budget(run="1s")
def test_misspelt():
    nap.delay(0)


@pytest.mark.celery_budget(runtime="1s", tasks="nap")
def test_no_match():
    nap.delay(0)


@pytest.mark.celery_expect(agree=True)
def test_not_compared():
    nap.delay(0)


@pytest.mark.celery_pools("solo")
def test_other_pool():
    nap.delay(0)
