"""What one execution of a task costs: processor time, time kept from others, time spent waiting for a processor.

A slot is a thread (prefork's child, solo's worker, a thread of ``threads``) or a greenlet. A thread has clocks
of its own; a greenlet has none, so for green pools every switch is seen through ``greenlet.settrace``.
"""

from __future__ import annotations

import os
import time
from typing import Any

from pytest_celerypool.agent import originals

_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcFile:
    """A small file of ``/proc`` kept open, since reading it anew costs twenty times as much."""

    def __init__(self, path: str) -> None:
        try:
            self._fd = originals.open_file(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux, or /proc is hidden: the figure is then not offered
            self._fd = -1

    def field(self, index: int) -> int | None:
        """Return the whitespace-separated integer at `index`, ``None`` where the system does not offer it."""
        if self._fd < 0:
            return None
        try:
            return int(os.pread(self._fd, 128, 0).split()[index])
        except (OSError, IndexError, ValueError):
            return None


class Clocks:
    """The clocks of this process: they are opened anew after a fork, since ``/proc/self`` names the opener."""

    def __init__(self) -> None:
        self._pid = 0
        self._memory: ProcFile | None = None
        self._delays: dict[int, ProcFile] = {}

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._memory = ProcFile("/proc/self/statm")
        self._delays = {}

    def memory(self) -> int | None:
        """Resident memory of this process in bytes."""
        if self._pid != os.getpid():
            self._renew()
        assert self._memory is not None
        pages = self._memory.field(1)
        return None if pages is None else pages * _PAGE

    def delay(self) -> float | None:
        """Seconds that this thread has waited for a processor so far (second figure of ``schedstat``)."""
        if self._pid != os.getpid():
            self._renew()
        ident = originals.get_ident()
        file = self._delays.get(ident)
        if file is None:
            file = self._delays[ident] = ProcFile("/proc/thread-self/schedstat")
        nanoseconds = file.field(1)
        return None if nanoseconds is None else nanoseconds / 1e9


class ThreadMeter:
    """Measures one execution in a slot that is a thread."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self.memory = clocks.memory()
        self._delay = clocks.delay()
        self._cpu = time.thread_time()

    def stop(self) -> dict[str, Any]:
        """Return ``cpu`` and ``wait`` in seconds, ``mem`` in bytes."""
        cpu = time.thread_time() - self._cpu
        delay = self._clocks.delay()
        wait = None if delay is None or self._delay is None else max(0.0, delay - self._delay)
        return {"cpu": cpu, "wait": wait, "mem": self._clocks.memory()}


class GreenMeter:
    """Measures one execution in a slot that is a greenlet; fed by :class:`SwitchTracer`."""

    __slots__ = ("_clocks", "_cpu_since", "_delay_since", "_since", "cpu", "greenlet", "hold", "memory", "wait")

    def __init__(self, clocks: Clocks, greenlet: Any) -> None:
        self._clocks = clocks
        self.greenlet = greenlet
        self.memory = clocks.memory()
        self.cpu = self.hold = 0.0
        self.wait: float | None = 0.0
        self.enter()

    def enter(self) -> None:
        """The greenlet gets the hub."""
        self._delay_since = self._clocks.delay()
        self._cpu_since = time.thread_time()
        self._since = time.monotonic()

    def leave(self) -> None:
        """The greenlet gives up the hub: add up what it used, less the time the hub waited for a processor."""
        held = time.monotonic() - self._since
        self.cpu += time.thread_time() - self._cpu_since
        delay = self._clocks.delay()
        if delay is None or self._delay_since is None or self.wait is None:
            self.wait = None
        else:
            waited = max(0.0, delay - self._delay_since)
            self.wait += waited
            held = max(0.0, held - waited)
        self.hold = max(self.hold, held)

    def stop(self) -> dict[str, Any]:
        """Return ``cpu``, ``hold`` and ``wait`` in seconds, ``mem`` in bytes."""
        self.leave()
        return {"cpu": self.cpu, "hold": self.hold, "wait": self.wait, "mem": self._clocks.memory()}


class SwitchTracer:
    """Hands every switch of the hub's thread to the meters of the greenlets concerned.

    ``greenlet.settrace`` is one for a thread, so a tracer that was there before is called on.
    """

    def __init__(self, clocks: Clocks) -> None:
        import greenlet

        self._clocks = clocks
        self._getcurrent = greenlet.getcurrent
        self.running: dict[Any, GreenMeter] = {}
        self._previous = greenlet.settrace(self._switch)

    def _switch(self, event: str, args: Any) -> None:
        if event in ("switch", "throw"):
            origin, target = args
            meter = self.running.get(origin)
            if meter is not None:
                meter.leave()
            meter = self.running.get(target)
            if meter is not None:
                meter.enter()
        if self._previous is not None:
            self._previous(event, args)

    def start(self) -> GreenMeter:
        """Begin to measure the current greenlet."""
        current = self._getcurrent()
        meter = self.running[current] = GreenMeter(self._clocks, current)
        return meter

    def stop(self, meter: GreenMeter) -> dict[str, Any]:
        """End the measurement that :meth:`start` began; what :meth:`GreenMeter.stop` returns."""
        self.running.pop(meter.greenlet, None)
        return meter.stop()
