"""What one execution of a task costs: processor time, time kept from others, time spent waiting for a processor.

A slot is a thread (prefork's child, solo's worker, a thread of ``threads``) or a greenlet. A thread has clocks
of its own; a greenlet has none, so for green pools every switch is seen through ``greenlet.settrace``.

All of this runs inside other people's tasks, the tracer even at every switch of their hub: names are bound
ahead, and nothing is read that is not needed. Reading the time costs 0.1 µs, the processor time of a thread
0.8 µs, a file of ``/proc`` 2.5 µs.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from pytest_celerypool.agent import originals

_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Bytes to read of a file: more than the first two figures of ``statm`` or ``schedstat`` take.
_READ = 64

#: For so many seconds off the processor a greenlet's thread is not asked whether it waited for one.
SLACK_S = 0.001

#: Memory is not read again that was read so shortly before, at the end of another task. At the end of a task that was
#: alone in its process it always is.
MEMORY_AGE_S = 0.005


class ProcFile:
    """A small file of ``/proc`` kept open, since opening it anew costs twenty times as much.

    It is read by ``pread`` without giving up the interpreter's lock (:mod:`~pytest_celerypool.agent.originals`), into
    one buffer: a shorter text leaves the end of a longer one behind it.
    """

    __slots__ = ("_address", "_buffer", "_fd", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._buffer = ctypes.create_string_buffer(_READ)
        self._address = ctypes.addressof(self._buffer)
        self._open()

    def _open(self) -> bool:
        """Open the file, read it once, and return whether that can be done."""
        try:
            self._fd = originals.open_file(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux, or /proc is hidden: the figure is then not offered
            self._fd = -1
        return self._fd >= 0 and originals.pread(self._fd, self._address, _READ, 0) > 0

    def second(self) -> int | None:
        """Return the second of its whitespace-separated integers, ``None`` where the system does not offer it."""
        if self._fd < 0:
            return None
        # It fails if the file's thread has ended, or the user's code closed every descriptor.
        if originals.pread(self._fd, self._address, _READ, 0) <= 0 and not self._open():
            return None
        try:
            return int(self._buffer.raw.split(None, 2)[1])
        except (IndexError, ValueError):
            return None


class Clocks:
    """The clocks of this process: they are opened anew after a fork, since ``/proc/self`` names the opener."""

    def __init__(self) -> None:
        self.renew(os.getpid())

    def renew(self, pid: int) -> None:
        """Open everything anew; to be called in a forked child, when :attr:`pid` is no longer its own.

        What the parent opened stays open: its numbers may be the user's by now.
        """
        self.pid = pid
        self._statm = ProcFile("/proc/self/statm")
        self._memory: int | None = None
        self._memory_read = -MEMORY_AGE_S
        self._delays: dict[int, ProcFile] = {}

    def memory(self, now: float) -> int | None:
        """Resident memory of this process in bytes, read at the moment `now`."""
        pages = self._statm.second()
        self._memory = None if pages is None else pages * _PAGE
        self._memory_read = now
        return self._memory

    def recent_memory(self, now: float) -> int | None:
        """The same, read at most :data:`MEMORY_AGE_S` before the moment `now`."""
        return self._memory if now - self._memory_read < MEMORY_AGE_S else self.memory(now)

    def delay(self) -> float | None:
        """Seconds that this thread has waited for a processor so far (second figure of ``schedstat``)."""
        ident = originals.get_ident()
        file = self._delays.get(ident)
        if file is None:
            file = self._delays[ident] = ProcFile("/proc/thread-self/schedstat")
        nanoseconds = file.second()
        return None if nanoseconds is None else nanoseconds / 1e9


class ThreadMeter:
    """Measures one execution in a slot that is a thread, from its making to :meth:`stop`.

    :ivar id: the task's id.
    :ivar about: what the records of its start and its end have in common.
    """

    __slots__ = ("_clocks", "_cpu", "_delay", "about", "id")

    def __init__(self, clocks: Clocks, task_id: str, about: str) -> None:
        self._clocks = clocks
        self.id = task_id
        self.about = about
        self._delay = clocks.delay()
        self._cpu = time.thread_time()

    def stop(self) -> tuple[float, None, float | None]:
        """Return in seconds: processor time, nothing, time spent waiting for a processor."""
        cpu = time.thread_time() - self._cpu
        delay = self._clocks.delay()
        wait = None if delay is None or self._delay is None else max(0.0, delay - self._delay)
        return cpu, None, wait


class GreenMeter:
    """Measures one execution in a slot that is a greenlet; made and fed by :class:`SwitchTracer`.

    :ivar id: the task's id.
    :ivar about: what the records of its start and its end have in common.
    """

    __slots__ = ("_cpu_since", "_since", "_tracer", "about", "cpu", "hold", "id", "wait")

    def __init__(self, tracer: SwitchTracer, task_id: str, about: str) -> None:
        self._tracer = tracer
        self.id = task_id
        self.about = about
        self.cpu = self.hold = self.wait = 0.0
        self.enter(time.monotonic(), time.thread_time())

    def enter(self, now: float, cpu: float) -> None:
        """The greenlet gets the hub at the moment `now`; its thread has used `cpu` seconds so far."""
        self._since = now
        self._cpu_since = cpu
        if now - cpu > self._tracer.known_until:
            self._tracer.ask(now - cpu)

    def leave(self, now: float, cpu: float) -> None:
        """The greenlet gives up the hub: add up what it used, less the time the hub waited for a processor."""
        held = now - self._since
        used = cpu - self._cpu_since
        self.cpu += used
        if held - used > SLACK_S:
            waited = min(self._tracer.ask(now - cpu), held - used)
            self.wait += waited
            held -= waited
        if held > self.hold:
            self.hold = held

    def stop(self) -> tuple[float, float, float | None]:
        """Return in seconds: processor time, longest hold, time that the hub waited for a processor meanwhile.

        Its greenlet must not be among those running any more.
        """
        self.leave(time.monotonic(), time.thread_time())
        return self.cpu, self.hold, self.wait if self._tracer.tells_delay else None


class SwitchTracer:
    """Hands every switch of the hub's thread to the meters of the greenlets concerned.

    How long the thread waited for a processor costs more to ask than all else together, and most greenlets keep
    the hub for microseconds. So it is asked only when the thread has been off the processor (time less
    processor time) for more than :data:`SLACK_S`: since it was asked last, before a greenlet gets the hub, and
    within one hold, after. A hold is therefore wrong by :data:`SLACK_S` at most: too long if the hub waited less
    than that for a processor meanwhile, too short if it did so in the moment before; ``wait`` is the sum over
    the holds and leaves out what is shorter.

    ``greenlet.settrace`` is one for a thread, so a tracer that was there before is called on.

    :ivar running: the meters of the greenlets that run tasks; whoever stops one takes it out first.
    :ivar known_until: as long as the thread has spent no more seconds off the processor, :meth:`ask` would tell
        nothing new.
    :ivar tells_delay: whether the system tells how long a thread waited for a processor.
    """

    def __init__(self, clocks: Clocks) -> None:
        import greenlet

        self._clocks = clocks
        self.getcurrent = greenlet.getcurrent
        self.running: dict[Any, GreenMeter] = {}
        self._delay = clocks.delay()
        self.tells_delay = self._delay is not None
        self.known_until = 0.0
        self._install(greenlet.settrace)

    def _install(self, settrace: Any) -> None:
        meter_of = self.running.get
        monotonic, thread_time = time.monotonic, time.thread_time

        def switch(event: str, args: Any) -> None:
            if event in ("switch", "throw"):
                origin, target = args
                leaving, entering = meter_of(origin), meter_of(target)
                if leaving is not None or entering is not None:
                    now, cpu = monotonic(), thread_time()
                    if leaving is not None:
                        leaving.leave(now, cpu)
                    if entering is not None:
                        entering.enter(now, cpu)
            if previous is not None:
                previous(event, args)

        previous = settrace(switch)
        self._switch, self._previous = switch, previous

    def uninstall(self) -> None:
        """Put back the tracer that was there before."""
        import greenlet

        if greenlet.gettrace() is self._switch:
            greenlet.settrace(self._previous)

    def ask(self, off: float) -> float:
        """Ask how long the thread waited for a processor; returns by how much since it was asked last.

        :param off: the seconds that the thread has spent off the processor so far.
        """
        before, self._delay = self._delay, self._clocks.delay()
        self.known_until = off + SLACK_S
        return 0.0 if before is None or self._delay is None else max(0.0, self._delay - before)

    def start(self, task_id: str, about: str) -> GreenMeter:
        """Begin to measure the current greenlet."""
        meter = self.running[self.getcurrent()] = GreenMeter(self, task_id, about)
        return meter
