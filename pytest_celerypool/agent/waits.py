"""Cap the waits that make a worker slow to stop.

Celery looks at its shutdown flag between two waits for the broker, of one or two seconds each
(``celery.worker.loops.synloop``, ``celery.worker.pidbox.gPidbox.loop``, kombu's hub with nothing scheduled).
A wait of 50 ms that returns empty costs a few microseconds and changes nothing else.
"""

from __future__ import annotations

import time
from typing import Any

LONGEST_S = 0.05

#: A closing channel waits for the reply to its last ``BRPOP``, by default a second. The transport option
#: ``polling_interval`` would shorten it too, and delay every message that comes in the meantime.
BRPOP_S = 0.1


def cap(*, redis: bool) -> None:
    """Cap every wait for broker events in this process.

    :param redis: whether the broker is a Redis server.
    """
    from kombu import Connection
    from kombu.asynchronous import hub

    original = Connection.drain_events

    def drain_events(self: Any, **kwargs: Any) -> Any:
        timeout = kwargs.get("timeout")
        if timeout is not None and timeout >= 1:
            kwargs["timeout"] = LONGEST_S
        return original(self, **kwargs)

    Connection.drain_events = drain_events

    if redis:
        from kombu.transport.redis import Transport

        Transport.brpop_timeout = BRPOP_S

    fire_timers = hub.Hub.fire_timers

    def capped_fire_timers(self: Any, *args: Any, **kwargs: Any) -> Any:
        delay = fire_timers(self, *args, **kwargs)
        return LONGEST_S if delay is None else min(delay, LONGEST_S)

    hub.Hub.fire_timers = capped_fire_timers


def shorten_prefork_exit() -> None:
    """Let the children of a prefork pool that is shutting down leave without their last second of sleep.

    ``billiard.pool.Worker._do_exit`` sleeps a second after everything is done, and Celery's pool half a second
    between two looks (``celery.concurrency.prefork``). While the worker serves, both keep their sleep: only the
    shutdown, seen through a byte shared with the children, shortens it.
    """
    import mmap

    import billiard.pool
    from celery import signals
    from celery.concurrency import prefork

    flag = mmap.mmap(-1, 1)

    def shutting_down(**_: Any) -> None:
        flag[0] = 1

    signals.worker_shutting_down.connect(shutting_down, weak=False)
    billiard.pool.time = prefork.time = _Impatient(flag)


class _Impatient:
    """The module ``time``, whose ``sleep`` is short once the shared byte is set."""

    def __init__(self, flag: Any) -> None:
        self._flag = flag

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep, but not for long during a shutdown."""
        time.sleep(min(seconds, LONGEST_S) if self._flag[0] else seconds)
