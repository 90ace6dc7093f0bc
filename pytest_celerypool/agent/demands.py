"""See what a test demands of its pool, so that a failure can be told apart that is the pool's nature.

Each demand has the name of the fact of a :class:`~pytest_celerypool.pools.Pool` that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def seen_demands() -> Iterator[set[str]]:
    """Collect the demands that reach the workers of this process, or are made of them from here, meanwhile."""
    from celery import signals
    from celery.app.control import Control

    demands: set[str] = set()

    def on_received(request: Any = None, **_: Any) -> None:
        hard, soft = request.time_limits or (None, None)
        if soft or request.task.soft_time_limit:
            demands.add("enforces_soft_time_limit")
        if hard or request.task.time_limit:
            demands.add("enforces_hard_time_limit")
        if request.expires is not None:
            demands.add("drops_expired_while_waiting")

    original = Control.broadcast

    def broadcast(self: Any, command: str, arguments: Any = None, *args: Any, **kwargs: Any) -> Any:
        from celery.worker import state

        if state.active_requests:
            demands.add("answers_control_while_working")
        if command in ("revoke", "terminate") and (arguments or {}).get("terminate"):
            demands.add("terminates_on_revoke")
        return original(self, command, arguments, *args, **kwargs)

    signals.task_received.connect(on_received, weak=False)
    Control.broadcast = broadcast
    try:
        yield demands
    finally:
        Control.broadcast = original
        signals.task_received.disconnect(on_received)
