"""Cap the waits that make a worker slow to stop.

Celery looks at its shutdown flag between two waits for the broker, of one or two seconds each
(``celery.worker.loops.synloop``, ``celery.worker.pidbox.gPidbox.loop``, kombu's hub with nothing scheduled).
A wait of 50 ms that returns empty costs a few microseconds and changes nothing else.
"""

from __future__ import annotations

from typing import Any

LONGEST_S = 0.05


def cap() -> None:
    """Cap every wait for broker events in this process."""
    from kombu import Connection
    from kombu.asynchronous import hub

    original = Connection.drain_events

    def drain_events(self: Any, **kwargs: Any) -> Any:
        timeout = kwargs.get("timeout")
        if timeout is not None and timeout >= 1:
            kwargs["timeout"] = LONGEST_S
        return original(self, **kwargs)

    Connection.drain_events = drain_events

    fire_timers = hub.Hub.fire_timers

    def capped_fire_timers(self: Any, *args: Any, **kwargs: Any) -> Any:
        delay = fire_timers(self, *args, **kwargs)
        return LONGEST_S if delay is None else min(delay, LONGEST_S)

    hub.Hub.fire_timers = capped_fire_timers
