"""Let a worker that shuts down leave the waits that make it slow to stop.

Celery looks at its shutdown flag between two waits for the broker, of one or two seconds each
(``celery.worker.loops.synloop``, ``celery.worker.pidbox.gPidbox.loop``, kombu's hub with nothing scheduled).
Where the wait is a poller's of kombu, as with Redis and in the hub of prefork, the poller also watches a pipe
that becomes readable when the worker is asked to stop: until then nothing of the worker runs for that. Under a
green library the hub watches that pipe, not the poller, which is a ``select`` there and tells the hub of each of its
descriptors anew for each wait. Each has a pipe of its own, since eventlet lets one greenlet at a time wait for a
descriptor. The waits of other transports are cut to 50 ms; with Redis under gevent that cost a fortieth of a
processor.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent import originals

#: Seconds that a wait for another transport than Redis may take. In kombu's hub it matters from the beginning: a
#: control command that reaches a worker of ``solo`` on RabbitMQ just as it begins to consume is looked at after the
#: first wait only, which takes ten seconds by default (``Hub.fire_timers``; Celery 5.7 and py-amqp 5.4 do so without
#: this plugin too).
LONGEST_S = 0.05

#: A closing channel waits for the reply to its last ``BRPOP``, by default a second. The transport option
#: ``polling_interval`` would shorten it too, and delay every message that comes in the meantime.
BRPOP_S = 0.1

#: A loop that waits on although the worker is stopping lets others run for so long each time.
_RESPITE_S = 0.01

#: How long a worker that consumes may take to hear broadcasts too, in seconds.
_SUBSCRIBED_S = 1.0


class _Stopping(BaseException):
    """Ends the wait of a greenlet; nothing between this module and the hub catches it."""


class Stops:
    """The pipes that wake the pollers of one worker when it is asked to stop."""

    def __init__(self) -> None:
        self._writing: set[int] = set()
        self._woken = False

    def wake(self) -> None:
        """End the waits of every poller; never undone: each later wait ends too."""
        self._woken = True
        for stop in tuple(self._writing):
            originals.write(stop, b"!")

    def watch(self, poller: Any, interrupted: Callable[[], Any], longest: float | None = None) -> Any:
        """Let the waits of one of kombu's pollers end when :meth:`wake` is called; returns the poller.

        :param interrupted: gives what a wait returns that ends for nothing else.
        :param longest: seconds that a wait may take, if there is such a limit.
        """
        from kombu.utils.compat import detect_environment
        from kombu.utils.eventio import READ

        listen = _LISTEN.get(detect_environment())
        if listen is not None:
            return self._watch_in_hub(poller, interrupted, longest, listen)
        poll, register = poller.poll, poller.register
        stopping = -1

        def add(fd: int) -> None:
            register(fd, READ)

        def watching(timeout: float | None) -> Any:
            nonlocal stopping
            waits = timeout is None or timeout > _RESPITE_S
            if waits and stopping < 0:
                stopping = self._pipe(poller, add)
            if longest is not None and (timeout is None or timeout > longest):
                timeout = longest
            events = poll(timeout)
            for event in events or ():
                if event[0] == stopping:
                    break
            else:
                return events
            events = [event for event in events if event[0] != stopping]
            if waits and not events:
                time.sleep(_RESPITE_S)
                return interrupted()
            return events

        poller.poll = watching
        return poller

    def _watch_in_hub(self, poller: Any, interrupted: Callable[[], Any], longest: float | None, listen: _Listen) -> Any:
        """Let the waits of a poller end whose greenlet waits in the hub of `listen`'s library."""
        from greenlet import getcurrent

        poll = poller.poll
        waiting: Any = None
        listening = False

        def wake() -> None:
            if waiting is not None:
                waiting.throw(_Stopping)

        def watching(timeout: float | None) -> Any:
            nonlocal waiting, listening
            if timeout is not None and timeout <= _RESPITE_S:
                return poll(timeout)
            if self._woken:
                return poll(_RESPITE_S) or interrupted()
            if not listening:
                self._pipe(poller, lambda fd: listen(fd, wake))
                listening = True
            if longest is not None and (timeout is None or timeout > longest):
                timeout = longest
            waiting = getcurrent()
            try:
                return poll(timeout)
            except _Stopping:
                return interrupted()
            finally:
                waiting = None

        poller.poll = watching
        return poller

    def _pipe(self, poller: Any, listen: Callable[[int], Callable[[], None] | None]) -> int:
        """Make the pipe of a poller, which lives as long as that, and return the end that is read.

        :param listen: begins to wait for it, and returns what is to be called before it is closed.
        """
        stopping, stop = os.pipe()
        ignore = listen(stopping)
        self._writing.add(stop)
        if self._woken:
            originals.write(stop, b"!")
        weakref.finalize(poller, _close, os.getpid(), ignore, self._writing, stopping, stop).atexit = False
        return stopping


#: Calls a function in the hub of a library once a descriptor is readable; returns a function that ends this.
_Listen = Callable[[int, Callable[[], None]], Callable[[], None]]


def _listen_by_gevent(fd: int, readable: Callable[[], None]) -> Callable[[], None]:
    from gevent import get_hub

    watcher = get_hub().loop.io(fd, 1, ref=False)  # EV_READ

    def on_readable() -> None:
        watcher.stop()
        readable()

    def ignore() -> None:
        watcher.stop()
        watcher.close()

    watcher.start(on_readable)
    return ignore


def _listen_by_eventlet(fd: int, readable: Callable[[], None]) -> Callable[[], None]:
    from eventlet.hubs import get_hub

    hub = get_hub()

    def ignore() -> None:
        if hub.listeners[hub.READ].get(fd) is listener:
            hub.remove(listener)

    def on_readable(_fd: int) -> None:
        ignore()
        readable()

    listener = hub.add(hub.READ, fd, on_readable, lambda *_: None, lambda: None)
    return ignore


_LISTEN: dict[str, _Listen] = {"gevent": _listen_by_gevent, "eventlet": _listen_by_eventlet}


def cap(*, redis: bool) -> None:
    """End every wait for broker events in this process soon after the worker was asked to stop.

    :param redis: whether the broker is a Redis server.
    """
    from celery import signals
    from kombu.asynchronous import hub

    stops = Stops()

    def shutting_down(**_: Any) -> None:
        stops.wake()

    signals.worker_shutting_down.connect(shutting_down, weak=False)
    make_for_hub = hub.poll
    hub.poll = lambda: stops.watch(make_for_hub(), list, None if redis else LONGEST_S)
    if redis:
        from kombu.transport import redis as transport

        make = transport.poll
        transport.poll = lambda: stops.watch(make(), time_out)
        transport.Transport.brpop_timeout = BRPOP_S
    else:
        _cap_drain_events()


def _cap_drain_events() -> None:
    from kombu import Connection

    original = Connection.drain_events

    def drain_events(self: Any, **kwargs: Any) -> Any:
        timeout = kwargs.get("timeout")
        if timeout is not None and timeout >= 1:
            kwargs["timeout"] = LONGEST_S
        return original(self, **kwargs)

    Connection.drain_events = drain_events


def time_out() -> Any:
    """End a ``drain_events`` that has seconds left, as its callers expect it to end."""
    raise TimeoutError("the worker is stopping")


def _close(pid: int, ignore: Callable[[], None] | None, stops: set[int], *pipe: int) -> None:
    if os.getpid() == pid:  # in a forked child the numbers may be the user's by now
        if ignore is not None:
            ignore()
        stops.difference_update(pipe)
        for fd in pipe:
            os.close(fd)


def wait_for_broadcasts(consumer: Any) -> None:
    """Wait until a worker that consumes hears broadcasts too, at most a second: one of the first moment would be lost.

    :param consumer: Celery's consumer; it runs in another thread or greenlet.
    """
    nodes = [step.box.node for step in consumer.steps if hasattr(step, "box")]

    def hears(node: Any) -> bool:
        # Redis: kombu's channel keeps here the connection on which it is subscribed.
        return node.channel is not None and bool(getattr(node.channel, "_in_listen", True))

    deadline = time.monotonic() + _SUBSCRIBED_S
    while not all(hears(node) for node in nodes) and time.monotonic() < deadline:
        time.sleep(0.001)


def shorten_prefork_exit(longest: float = LONGEST_S) -> Callable[[], None]:
    """Let the children of a prefork pool that is shutting down leave without their last second of sleep.

    ``billiard.pool.Worker._do_exit`` sleeps a second after everything is done, and Celery's pool half a second
    between two looks (``celery.concurrency.prefork``). While the worker serves, both keep their sleep: only the
    shutdown, seen through a byte shared with the children, shortens it. A pool that is terminated also waits half a
    second for tasks that no child has taken yet (``AsynPool._help_stuff_finish``).

    A child also waits, three hundred sleeps long, until its last result has been read
    (``Worker._ensure_messages_consumed``). Where the pool is terminated nobody reads it any more.

    :param longest: seconds that a sleep may take during a shutdown.
    :returns: a receiver of ``worker_shutting_down`` that tells the children.
    """
    import mmap

    import billiard.pool
    from celery.concurrency import asynpool, prefork

    flag = mmap.mmap(-1, 1)

    def shutting_down(**_: Any) -> None:
        flag[0] = 1

    select = asynpool._select

    def impatient_select(*args: Any, timeout: float | None = 0, **kwargs: Any) -> Any:
        return select(*args, timeout=min(timeout or 0, longest) if flag[0] else timeout, **kwargs)

    asynpool._select = impatient_select
    billiard.pool.time = prefork.time = _Impatient(flag, longest)
    return shutting_down


class _Impatient:
    """The module ``time``, whose ``sleep`` is short once the shared byte is set."""

    def __init__(self, flag: Any, longest: float) -> None:
        self._flag = flag
        self._longest = longest

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Sleep, but not for long during a shutdown."""
        time.sleep(min(seconds, self._longest) if self._flag[0] else seconds)
