"""Know when a task's own code is over: what storing its result takes, opens or waits for is not the task's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent.meters import Run


def watch(current: Callable[[], Run | None], returned: Callable[[Run, Any], None]) -> Callable[[], None]:
    """Mark the execution of the current slot as over while its result is stored, and measure how long that takes.

    :param current: returns that execution, ``None`` outside of any.
    :param returned: called with it and what it has returned, before that is stored.
    :returns: a function that ends this.
    """
    from celery.backends.base import Backend

    original, monotonic = Backend.mark_as_done, time.monotonic

    def mark_as_done(backend: Any, task_id: str, result: Any, *args: Any, **kwargs: Any) -> Any:
        run = current()
        if run is None or run.id != task_id:
            return original(backend, task_id, result, *args, **kwargs)
        returned(run, result)
        run.over, begun = True, monotonic() - run.waited()
        try:
            return original(backend, task_id, result, *args, **kwargs)
        finally:
            run.stored += max(0.0, monotonic() - run.waited() - begun)
            run.over = False  # the task's after_return() is its own code again

    def unwatch() -> None:
        if Backend.mark_as_done is mark_as_done:
            Backend.mark_as_done = original

    Backend.mark_as_done = mark_as_done
    return unwatch
