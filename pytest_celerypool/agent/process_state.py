"""Put back what a Celery worker changes in the whole process when it lives inside of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LOGGERS = ("", "celery", "celery.task", "celery.redirected", "celery.worker", "kombu", "amqp", "multiprocessing")


@contextmanager
def keep_process_state(app: Any) -> Iterator[None]:
    """Undo at the end what making, running and ending a worker of `app` changes outside of it.

    Kept are the current and the default application, whether waiting for results in a task is refused, the flags that
    stop workers, the requests that the worker's state knows, the event loop of kombu, the locks that Celery replaces,
    the patience of prefork's children, and the set-up of logging.
    """
    from kombu.asynchronous import get_event_loop, set_event_loop

    restorers = [
        _applications(),
        _join_flag(),
        _worker_state(),
        _locks(app),
        _prefork_patience(),
        _logging(app),
    ]
    loop = get_event_loop()
    # Every worker has a loop of its own: Celery would take that of another, which may be running or closed.
    set_event_loop(None)
    try:
        yield
    finally:
        set_event_loop(loop)
        for restore in restorers:
            restore()


def _applications() -> Callable[[], None]:
    from celery import _state

    current = getattr(_state._tls, "current_app", None)
    default = _state.default_app

    def restore() -> None:
        _state._tls.current_app = current
        _state.default_app = default

    return restore


def _join_flag() -> Callable[[], None]:
    from celery import _state

    blocks = _state.task_join_will_block()
    return lambda: _state._set_task_join_will_block(blocks)


def _worker_state() -> Callable[[], None]:
    from celery.worker import state

    flags = state.should_stop, state.should_terminate
    collections = [state.requests, state.reserved_requests, state.active_requests, state.total_count]
    limited = [state.successful_requests, state.revoked]
    before = [collection.copy() for collection in collections] + [each.as_dict() for each in limited]
    counts = list(state.all_total_count)

    def restore() -> None:
        state.should_stop, state.should_terminate = flags
        for collection, content in zip([*collections, *limited], before, strict=True):
            collection.clear()
            collection.update(content)
        state.all_total_count[:] = counts

    return restore


def _locks(app: Any) -> Callable[[], None]:
    from billiard import pool

    clock, lock = app.clock.mutex, pool.Lock

    def restore() -> None:
        app.clock.mutex, pool.Lock = clock, lock

    return restore


def _prefork_patience() -> Callable[[], None]:
    import billiard.pool
    from celery.concurrency import asynpool, prefork

    # Celery's pool has no wait of its own before 5.5, and so no clock.
    owners = [(billiard.pool, "time"), (prefork, "time"), (asynpool, "_select")]
    before = [vars(owner).get(name) for owner, name in owners]

    def restore() -> None:
        for (owner, name), value in zip(owners, before, strict=True):
            if value is not None:
                setattr(owner, name, value)
            else:
                vars(owner).pop(name, None)

    return restore


def _logging(app: Any) -> Callable[[], None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(each.level, each.propagate, each.disabled, list(each.handlers)) for each in loggers]
    cls = type(app.log)
    was_set_up = cls.__dict__.get("_setup", getattr(cls, "_setup", False))

    def restore() -> None:
        for each, (level, propagate, disabled, handlers) in zip(loggers, before, strict=True):
            each.setLevel(level)
            each.propagate, each.disabled = propagate, disabled
            each.handlers[:] = handlers
        cls._setup = was_set_up

    return restore
