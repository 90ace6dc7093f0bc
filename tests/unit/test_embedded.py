"""A worker in this process starts, ends fast, and leaves nothing of itself in the process.

On ``memory://``, which needs no server; the other pools and brokers are in ``tests/workers``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import billiard.pool
import pytest
from celery import Celery, _state
from celery.concurrency import asynpool, prefork
from celery.worker import state
from kombu.asynchronous import get_event_loop

from pytest_celerypool.agent.embedded import EmbeddedWorker, StopError

#: Far more than any of it takes, in seconds; what it takes without this project is above it.
SOON = 1.0


@pytest.fixture
def app() -> Iterator[Any]:
    """An application that is not the current one."""
    with Celery("embedded", broker="memory://", backend="cache+memory://", set_as_current=False) as made:
        made.conf.broker_connection_retry_on_startup = True  # or Celery before 5.7 warns of the default

        @made.task(name="add", shared=False)
        def add(x: int, y: int) -> int:
            return x + y

        yield made


def process() -> list[Any]:
    """What a worker may not leave changed."""
    root = logging.getLogger()
    return [
        getattr(_state._tls, "current_app", None),
        _state.default_app,
        _state.task_join_will_block(),
        state.should_stop,
        state.should_terminate,
        dict(state.requests),
        dict(state.total_count),
        list(state.all_total_count),
        get_event_loop(),
        billiard.pool.Lock,
        billiard.pool.time,
        vars(prefork).get("time"),
        asynpool._select,
        root.level,
        list(root.handlers),
        logging.getLogger("celery").level,
        {thread.name for thread in threading.enumerate()},
    ]


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_worker_starts_runs_a_task_and_ends_soon(app: Any, pool: str):
    began = time.monotonic()
    worker = EmbeddedWorker(app, pool=pool, concurrency=1)
    worker.start()
    assert worker.alive
    assert app.tasks["add"].delay(1, 2).get(timeout=5) == 3
    worker.stop()
    assert not worker.alive
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_the_process_is_as_it_was(app: Any, pool: str):
    before, mutex = process(), app.clock.mutex
    worker = EmbeddedWorker(app, pool=pool, concurrency=2)
    worker.start()
    assert app.tasks["add"].delay(1, 2).get(timeout=5) == 3
    worker.stop()
    assert process() == before
    assert app.clock.mutex is mutex


def test_while_it_lives_its_application_is_the_default_one(app: Any):
    """The pool's threads find it by that."""
    worker = EmbeddedWorker(app, pool="threads", concurrency=1)
    worker.start()
    assert _state.default_app is app
    worker.stop()


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_its_tasks_are_looked_up_in_its_application_whatever_is_current_elsewhere(app: Any, pool: str):
    @app.task(name="current", shared=False)
    def current() -> str:
        return str(_state.get_current_app().main)

    worker = EmbeddedWorker(app, pool=pool, concurrency=1)
    worker.start()
    with Celery("another", set_as_current=False) as another:
        another.set_default()
        another.set_current()
        assert current.delay().get(timeout=5) == "embedded"
        worker.stop()


def test_one_of_two_workers_ends_alone(app: Any):
    """Celery's own way to end one is a flag of the whole process."""
    one, other = (EmbeddedWorker(app, pool="solo", concurrency=1, hostname=f"w{n}@here") for n in range(2))
    one.start()
    other.start()
    other.stop()
    assert one.alive
    assert app.tasks["add"].delay(1, 2).get(timeout=5) == 3
    one.stop()


def test_what_ends_the_thread_before_it_is_ready_is_raised_at_once(app: Any):
    before = process()

    def refuse(*_: Any, **__: Any) -> None:
        raise LookupError("no broker here")

    worker = EmbeddedWorker(app, pool="solo", concurrency=1)
    app.connection_for_read = refuse
    began = time.monotonic()
    with pytest.raises(LookupError, match="no broker here"):
        worker.start()
    del app.connection_for_read
    assert time.monotonic() - began < SOON
    assert process() == before


def test_a_pool_that_cannot_be_made_is_an_error_of_the_start(app: Any):
    with pytest.raises((ImportError, AttributeError)):
        EmbeddedWorker(app, pool="no.such.module:TaskPool", concurrency=1).start()


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_task_that_goes_on_is_interrupted(app: Any, pool: str):
    began, interrupted = threading.Event(), threading.Event()

    @app.task(name="goes_on", ignore_result=True, shared=False)
    def goes_on() -> None:
        began.set()
        try:
            while True:
                time.sleep(0.001)
        finally:
            interrupted.set()

    worker = EmbeddedWorker(app, pool=pool, concurrency=1)
    worker.start()
    goes_on.delay()
    assert began.wait(5)
    worker.stop(timeout=0.1)
    assert interrupted.is_set()


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_task_that_runs_no_python_is_said(app: Any, pool: str):
    """Nothing can end its thread; the caller is told instead of waiting for ever."""
    began, release = threading.Event(), threading.Event()

    @app.task(name="stuck", ignore_result=True, shared=False)
    def stuck() -> None:
        began.set()
        release.wait(20)

    worker = EmbeddedWorker(app, pool=pool, concurrency=1)
    worker.start()
    stuck.delay()
    assert began.wait(5)
    with pytest.raises(StopError, match="a task keeps its thread"):
        worker.stop(timeout=0.1)
    release.set()
    assert worker._thread is not None
    worker._thread.join(5)


@pytest.mark.parametrize("refuse", [True, False])
def test_waiting_for_a_result_in_a_task_is_refused_if_so_asked_and_never_in_the_test(app: Any, refuse: bool):
    @app.task(name="waits", shared=False)
    def waits() -> Any:
        return app.tasks["add"].delay(1, 2).get(timeout=5)

    worker = EmbeddedWorker(app, pool="threads", concurrency=2)
    worker.start(refuse_get=refuse)
    result = waits.delay()
    try:
        if refuse:
            with pytest.raises(RuntimeError, match=r"Never call result\.get"):
                result.get(timeout=5)
        else:
            assert result.get(timeout=5) == 3
    finally:
        worker.stop()
