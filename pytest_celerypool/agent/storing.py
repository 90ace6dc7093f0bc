"""Know when a task's own code is over: what storing its result takes, opens or waits for is not the task's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.replacing import Replacement

if TYPE_CHECKING:
    from pytest_celerypool.agent.recorder import Recorder

#: Where Celery stores what a task returned, or that it failed.
_BACKENDS = os.path.join("celery", "backends", "base.py")


def is_of_storing(exc: BaseException) -> bool:
    """Whether an exception was raised while Celery stored a result: then there is none."""
    trace = exc.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_name == "store_result" and code.co_filename.endswith(_BACKENDS):
            return True
        trace = trace.tb_next
    return False


def cannot_be_stored(exc: BaseException) -> bool:
    """Whether neither a result nor its failure can be encoded for the backend: whoever tries again fails as well."""
    from kombu.exceptions import EncodeError

    return isinstance(exc, EncodeError) and is_of_storing(exc)


def watch(recorder: Recorder) -> Callable[[], None]:
    """Mark the execution of the current slot as over while its result is stored, and measure how long that takes.

    How long it takes to store that a task has started, failed or is to be retried is measured too; the task's own code
    is not over then: its handlers are to come. Each thread or greenlet gets a result backend of its own when it needs
    one, mostly to store its first result: what Celery does to make that is none of the task's doing either.

    :param recorder: knows the executions; its watch is told what they have returned, before that is stored.
    :returns: a function that ends this.
    """
    from celery import Celery
    from celery.backends.base import Backend

    current, running, key = recorder.current, recorder.running, recorder.key

    def of(task_id: str) -> Run | None:
        run = current()
        return run if run is not None and run.id == task_id else None

    def mark_as_done(backend: Any, task_id: str, result: Any, *args: Any, **kwargs: Any) -> Any:
        # It runs for every task, as :func:`_get_backend` does: what :func:`_timed` does stands in both once more.
        run = running.get(key())
        if run is None or run.id != task_id:
            return done(backend, task_id, result, *args, **kwargs)
        watch = recorder.watch
        if watch is not None:
            watch.returned(run, result)
        begun = time.monotonic() - run.waited()
        # A soft time limit may be raised anywhere here: it must not leave the task deaf to its detectors.
        run.over = True
        try:
            return done(backend, task_id, result, *args, **kwargs)
        finally:
            run.over = False  # the task's after_return() is its own code again
            run.stored += max(0.0, time.monotonic() - run.waited() - begun)

    def mark_as_failure(backend: Any, task_id: str, *args: Any, **kwargs: Any) -> Any:
        return _timed(of(task_id), originals["mark_as_failure"], backend, task_id, *args, **kwargs)

    def mark_as_retry(backend: Any, task_id: str, *args: Any, **kwargs: Any) -> Any:
        return _timed(of(task_id), originals["mark_as_retry"], backend, task_id, *args, **kwargs)

    def store_result(backend: Any, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        # All else is timed already, or is the task's own doing.
        if state != "STARTED":
            return store(backend, task_id, result, state, *args, **kwargs)
        return _timed(of(task_id), store, backend, task_id, result, state, *args, **kwargs)

    def _get_backend(app: Any) -> Any:
        run = running.get(key())
        if run is None or run.over:
            return get_backend(app)
        begun = time.monotonic() - run.waited()
        run.over = True
        try:
            return get_backend(app)
        finally:
            run.over = False
            run.stored += max(0.0, time.monotonic() - run.waited() - begun)

    patches = (mark_as_done, mark_as_failure, mark_as_retry, store_result)
    owners = dict.fromkeys(patches, Backend) | {_get_backend: Celery}
    originals = {patch.__name__: vars(owner)[patch.__name__] for patch, owner in owners.items()}
    done, store, get_backend = (originals[name] for name in ("mark_as_done", "store_result", "_get_backend"))
    replaced = [Replacement(owner, patch.__name__, patch) for patch, owner in owners.items()]

    def unwatch() -> None:
        for each in replaced:
            each.end()

    return unwatch


def _timed(run: Run | None, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function and add the time that it takes to what `run` needed for storing, if there is a run."""
    if run is None:
        return function(*args, **kwargs)
    begun = time.monotonic() - run.waited()
    try:
        return function(*args, **kwargs)
    finally:
        run.stored += max(0.0, time.monotonic() - run.waited() - begun)
