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
from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_celerypool.agent import originals

_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Bytes to read of a file: more than the first two figures of ``statm`` or ``schedstat`` take.
_READ = 64

#: Seconds: the system is asked only of holds longer than this, and at most so long before one begins.
SLACK_S = 0.001

#: Since when a greenlet has had the hub that has not had it yet, in monotonic seconds.
NEVER = float("-inf")

#: Seconds: no thread waits longer than that for each of its turns on a processor, but where dozens of processes share
#: one. Linux from 6.12 on takes a sleep for such a wait if it moves a thread to another processor in the first moments
#: of its sleep: ``enqueue_task`` of kernel/sched/core.c calls ``sched_info_enqueue`` also for a thread that is
#: ``sched_delayed`` (https://lore.kernel.org/lkml/f82def74-a64a-4a05-c8d4-4eeb3e03d0c0@amd.com/ mends the same of PSI).
#: Measured on 6.18 with processes of unequal priority: 93 of 11763 sleeps. Of honest waits the mean of a turn was 4 ms
#: with four processes beside on two processors, 9 ms with 12, 17 ms with 24.
TURN_S = 0.025

#: Seconds: a thread that had no processor for less than this, since its waits for one were read, is not asked for them.
#: They are of the next hold then.
_NO_WAIT_S = 50e-6

#: Memory is not read again that was read so shortly before, at the end of another task. At the end of a task that was
#: alone in its process it always is.
MEMORY_AGE_S = 0.01


#: Seconds that a thread has waited for a processor, ever, ``None`` where the system does not tell; and its turns there.
Waits = tuple[float | None, int]


class ProcFile:
    """A small file of ``/proc`` kept open, since opening it anew costs twenty times as much.

    Where the interpreter's lock is contended it is read without giving that up
    (:mod:`~pytest_celerypool.agent.originals`), into one buffer: a shorter text leaves the end of a longer one behind
    it.
    """

    __slots__ = ("_arguments", "_buffer", "_contended", "_fd", "_path")

    def __init__(self, path: str, *, contended: bool = True) -> None:
        self._path = path
        self._contended = contended
        self._buffer = ctypes.create_string_buffer(_READ)
        self._open()

    def _open(self) -> bool:
        """Open the file, read it once, and return whether that can be done."""
        try:
            self._fd = originals.open_file(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux, or /proc is hidden: the figure is then not offered
            self._fd = -1
        self._arguments = originals.pread_arguments(self._fd, self._buffer)
        return self._fd >= 0 and originals.pread(*self._arguments) > 0

    def close(self) -> None:
        """Close the file; it can be read no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def second(self) -> int | None:
        """Return the second of its whitespace-separated integers, ``None`` where the system does not offer it."""
        try:
            # For every task: without another call where that can be.
            fields = self._fields() if self._contended else originals.read_at(self._fd, _READ, 0).split(None, 2)
        except OSError:
            fields = self._fields()
        try:
            return None if fields is None else int(fields[1])
        except (IndexError, ValueError):
            return None

    def waits(self) -> Waits:
        """Return what a ``schedstat`` says: the second of its integers in seconds, and the third."""
        # Three times for each task, and by a tracer of switches: without another call where that can be.
        if self._contended:
            read = originals.pread(*self._arguments) > 0
            fields: list[bytes] | None = self._buffer.raw.split(None, 3) if read else self._fields()
        else:
            try:
                fields = originals.read_at(self._fd, _READ, 0).split(None, 3)
            except OSError:
                fields = self._fields()
        try:
            return (None, 0) if fields is None else (int(fields[1]) / 1e9, int(fields[2]))
        except (IndexError, ValueError):
            return None, 0

    def _fields(self) -> list[bytes] | None:
        """Read the file; the first three of what is returned are its first three figures."""
        if self._fd < 0:
            return None
        if not self._contended:
            try:
                return originals.read_at(self._fd, _READ, 0).split(None, 3)
            except OSError:
                pass  # as below
        # It fails if the file's thread has ended, or the user's code closed every descriptor.
        if originals.pread(*self._arguments) <= 0 and not self._open():
            return None
        return self._buffer.raw.split(None, 3)


#: Seconds of processor time that a thread has used so far, and its :data:`Waits`.
Asked = tuple[float, float | None, int]


class Clocks:
    """The clocks of this process: they are opened anew after a fork, since ``/proc/self`` names the opener."""

    def __init__(self, *, contended: bool = True) -> None:
        self._contended = contended
        self.renew(os.getpid())

    def renew(self, pid: int) -> None:
        """Open everything anew; to be called in a forked child, when :attr:`pid` is no longer its own.

        What the parent opened stays open: its numbers may be the user's by now.
        """
        self.pid = pid
        self._statm = ProcFile("/proc/self/statm", contended=self._contended)
        self._memory: int | None = None
        self._memory_read = -MEMORY_AGE_S
        self._delays: dict[int, ProcFile] = {}
        self._main = ProcFile("/proc/self/schedstat") if self._contended else None
        self._beside, self._beside_at = 0.0, -SLACK_S

    def memory(self, now: float) -> int | None:
        """Resident memory of this process in bytes, read at the moment `now`."""
        pages = self._statm.second()
        self._memory = None if pages is None else pages * _PAGE
        self._memory_read = now
        return self._memory

    def recent_memory(self, now: float) -> int | None:
        """The same, read at most :data:`MEMORY_AGE_S` before the moment `now`."""
        return self._memory if now - self._memory_read < MEMORY_AGE_S else self.memory(now)

    def waits(self) -> Waits:
        """Seconds that this thread has waited for a processor, and its turns there.

        They are the second and the third figure of ``schedstat``.
        """
        file = self._delays.get(originals.get_ident()) or self._open_delays()
        return file.waits()

    def _open_delays(self) -> ProcFile:
        file = ProcFile("/proc/thread-self/schedstat", contended=self._contended)
        self._delays[originals.get_ident()] = file
        return file

    def delay_beside(self, now: float) -> float:
        """Seconds that a thread has waited for a processor that may have had the interpreter's lock meanwhile.

        It is the main one, in which Celery or the test runs. 0 where no other thread runs Python, or nothing is told.
        It was read at most :data:`SLACK_S` before the moment `now`.
        """
        if self._main is not None and now - self._beside_at >= SLACK_S:
            self._beside = (self._main.second() or 0) / 1e9
            self._beside_at = now
        return self._beside


class Cost(NamedTuple):
    """What one execution took, in seconds; ``None`` where the system does not tell, or the slot is no greenlet.

    :ivar ended: the end, in monotonic seconds.
    :ivar cpu: processor time of the task alone, :attr:`collected` included.
    :ivar wait: how long the task waited for a processor while its code was to run; 0 if that may have been a sleep
        (:data:`TURN_S`).
    :ivar hold: the longest it kept its hub.
    :ivar kept: how long it kept its hub in all.
    :ivar delay: how long those waited for a processor whom the task may have had to wait for: the thread of the hub
        where the slot is a greenlet, also while the task was asleep; its own thread and the main one, which may have
        had the interpreter's lock, where the slot is one of several threads; otherwise its own thread alone.
    :ivar stored: the part of its time in which its result was stored, without :attr:`wait`.
    :ivar collected: the processor time of the garbage collections that Python began by itself meanwhile in this slot.
    :ivar swept: by how much the longest hold would have been shorter without those.
    """

    ended: float
    cpu: float
    wait: float | None
    hold: float | None
    kept: float | None
    delay: float | None
    stored: float
    collected: float
    swept: float


#: See :class:`Run`.
About = tuple[str, str, int, int, str | None]


class Run:
    """One execution of a task in a slot, as recorder and detectors see it; what it costs is measured by a subclass.

    :ivar id: the task's id.
    :ivar task: Celery's task object.
    :ivar about: what the records of its start and its end have in common: the task's id and name, how often it has been
        retried, the process and the slot.
    :ivar marks: what detectors keep with it, each under a name of its own.
    :ivar number: how many executions this process had begun with it; negative if others ran when it began.
    :ivar nests: whether its slot has run other tasks eagerly meanwhile.
    :ivar over: whether the task's own code has returned, and its result is being stored.
    :ivar started: the start, in monotonic seconds.
    :ivar limits: the hard and the soft time limit in seconds that its message has, if it has any.
    :ivar stored: seconds that storing its result took, without those in which its slot waited for a processor.
    :ivar delayed: seconds that the thread of its slot had waited for a processor, ever, when it began; ``None`` where
        the system does not tell.
    :ivar collected: seconds of the garbage collections that Python began by itself in its slot meanwhile.
    :ivar thread: the system's number of its thread; ``None`` where the slot is a greenlet.
    :ivar memory: resident memory of its process at its end, in bytes; ``None`` where the system does not tell.
    """

    __slots__ = (
        *("about", "collected", "delayed", "id", "limits", "marks", "memory", "nests"),
        *("number", "over", "started", "stored", "task", "thread"),
    )

    started: float
    delayed: float | None

    def __init__(self, task_id: str, task: Any, about: About) -> None:
        self.id = task_id
        self.task = task
        self.about = about
        self.marks: dict[str, Any] = {}
        self.number = 0
        self.limits: Any = None
        self.thread: int | None = None
        self.memory: int | None = None
        self.nests = self.over = False
        self.stored = self.collected = 0.0

    def begin(self) -> None:
        """Begin to measure processor time: what the agent used since this was made is not the task's.

        It was made at the start of the task's time, and waits for a processor count from there: the agent may have had
        to wait too.
        """

    def waited(self) -> float:
        """Return the seconds that its slot has waited for a processor, ever; 0 where the system does not tell."""
        return 0.0

    def stop(self) -> Cost:
        """End the measurement and return what it took."""
        raise NotImplementedError


class ThreadMeter(Run):
    """Measures one execution in a slot that is a thread, from :meth:`begin` to :meth:`stop`.

    Its waits for a processor are not read again as long as it has had one since they were read: its processor time
    says that, and takes a quarter of the time. Who has had one all the time has not waited for the main thread either.
    """

    __slots__ = ("_alone", "_asked_at", "_asked_cpu", "_beside", "_clocks", "_cpu", "_turns", "_waits")

    def __init__(self, clocks: Clocks, task_id: str, task: Any, about: About) -> None:
        self._clocks = clocks
        # What is waited between any two of these three is in the last: later it may be asked for needlessly, no more.
        self._cpu = self._asked_cpu = time.thread_time()
        self.started = self._asked_at = time.monotonic()
        self._waits = self.delayed, self._turns = clocks.waits()
        super().__init__(task_id, task, about)
        self.thread = originals.get_native_id()
        # The main thread waits for itself only once.
        self._alone = self.thread == clocks.pid
        self._beside = 0.0 if self._alone else clocks.delay_beside(self.started)

    def begin(self) -> None:
        """Begin to measure processor time."""
        self.collected = 0.0
        self._cpu = time.thread_time()

    def waited(self) -> float:
        """Return the seconds that its slot has waited for a processor, ever."""
        # As _waits_at() does; storing asks for it twice in each task.
        used, now = time.thread_time(), time.monotonic()
        if now - self._asked_at - (used - self._asked_cpu) >= _NO_WAIT_S:
            self._asked_cpu, self._asked_at = used, now
            self._waits = self._clocks.waits()
        return self._waits[0] or 0.0

    def stop(self) -> Cost:
        """End the measurement and return what it took."""
        used = time.thread_time()
        # The two side by side: what is waited between them would be in only one of them.
        ended = time.monotonic()
        delayed, turns = self._waits_at(used, ended)
        waited = _since(self.delayed, delayed)
        ran_on = self._asked_at == self.started  # there was no reason to ask again
        beside = 0.0 if self._alone or ran_on else self._clocks.delay_beside(ended) - self._beside
        delay = None if waited is None else waited + beside
        wait = waited if waited is None or is_wait(waited, turns - self._turns) else 0.0
        return Cost(ended, used - self._cpu, wait, None, None, delay, self.stored, self.collected, 0.0)

    def _waits_at(self, used: float, now: float) -> Waits:
        """Return the waits of this thread at the moment `now`, just before which it had used so much processor time."""
        if now - self._asked_at - (used - self._asked_cpu) >= _NO_WAIT_S:
            self._asked_cpu, self._asked_at = used, now
            self._waits = self._clocks.waits()
        return self._waits


def _since(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else max(0.0, now - before)


def is_wait(waited: float, turns: int) -> bool:
    """Whether so many seconds of waiting can be true of so many turns on a processor (:data:`TURN_S`)."""
    return waited <= TURN_S * turns


class GreenMeter(Run):
    """Measures one execution in a slot that is a greenlet; made and fed by :class:`SwitchTracer`.

    :ivar greenlet: the slot; ``None`` once the execution has ended.
    :ivar idle: seconds in which it kept its hub and used no processor.
    :ivar hold: the longest that it kept its hub, without what Python needed to collect garbage meanwhile.
    :ivar swept: what of :attr:`collected` is of holds that are over.
    :ivar longest: the longest hold in which garbage was collected, with that.
    :ivar since: when the greenlet got the hub last, in monotonic seconds.
    :ivar asked: what the system had told of the hub's thread by then, or at most :data:`SLACK_S` before.
    """

    __slots__ = ("asked", "cpu", "greenlet", "hold", "idle", "longest", "since", "swept", "tracer", "wait")

    def __init__(self, tracer: SwitchTracer, task_id: str, task: Any, about: About, started: float) -> None:
        self.started = self.since = started
        self.delayed = tracer.delayed
        self.asked = tracer.asked
        super().__init__(task_id, task, about)
        self.tracer = tracer
        self.greenlet: Any = tracer.getcurrent()
        self.cpu = self.hold = self.idle = self.wait = self.swept = self.longest = 0.0

    def begin(self) -> None:
        """Begin to measure processor time and holds: the greenlet has the hub."""
        self.cpu = self.hold = self.idle = self.collected = 0.0
        tracer = self.tracer
        self.since = now = time.monotonic()
        if now - tracer.asked_at > SLACK_S:  # as look_again()
            tracer.look()
            self.since = tracer.asked_at
        self.asked = tracer.asked
        if tracer.delayed != self.delayed:
            self.wait = _since(self.delayed, tracer.delayed) or 0.0

    def waited(self) -> float:
        """Return the seconds that its hub had waited for a processor, ever, at most :data:`SLACK_S` ago."""
        self.tracer.look_again()
        return self.tracer.delayed or 0.0

    def stop(self) -> Cost:
        """End the measurement and return what it took; the delay is of at most :data:`SLACK_S` before either end."""
        tracer = self.tracer
        tracer.meters.pop(self.greenlet, None)
        now = time.monotonic()
        held = now - self.since
        if held > SLACK_S or self.collected > self.swept:
            tracer.leave(self, now)
        else:
            self.cpu += held
            self.hold = max(self.hold, held)
        # Detectors keep runs that have ended; what a greenlet's locals hold must go with it all the same.
        self.greenlet = None
        # What the tracer has just looked at reaches to that moment.
        ended = max(now, tracer.asked_at) if now - tracer.asked_at <= SLACK_S else tracer.look_again()
        wait = self.wait if tracer.tells_delay else None
        delay = _since(self.delayed, tracer.delayed)
        hold = max(self.hold, self.longest)
        kept = self.cpu + self.idle
        return Cost(ended, self.cpu, wait, hold, kept, delay, self.stored, self.collected, hold - self.hold)


class ChildMeter(GreenMeter):
    """Measures a greenlet that a task has spawned: what it keeps the hub for is that task's doing.

    It has not had the hub yet, and may never get it: :attr:`since` is :data:`NEVER` until it does.

    :ivar parent: the task.
    """

    __slots__ = ("parent",)

    def __init__(self, tracer: SwitchTracer, parent: Run, greenlet: Any) -> None:
        super().__init__(tracer, parent.id, parent.task, parent.about, time.monotonic())
        self.parent = parent
        self.greenlet = greenlet
        self.since = NEVER


class SwitchTracer:
    """Hands every switch of the hub's thread to the meters of the greenlets concerned.

    A greenlet mostly keeps the hub for microseconds. Reading the processor time of a thread takes half of one in a
    loop, and 4 µs between tasks, where nothing that it needs is in the processor's caches. So a hold shorter than
    :data:`SLACK_S` counts as processor time as long as it is, and nobody asks. Of a longer one the tracer compares how
    much processor time the thread had used, and how long it had waited for a processor, by its end and by its
    beginning; whatever it is asked for, it asks the system once in :data:`SLACK_S`, and what came after counts as
    processor time. Hold, processor time and ``wait`` of one hold are therefore wrong by :data:`SLACK_S` at most.

    ``greenlet.settrace`` is one for a thread, so a tracer that was there before is called on.

    :ivar running: the meters of the greenlets that run tasks; whoever stops one takes it out first.
    :ivar meters: the same, and those of the greenlets that tasks have spawned.
    :ivar asked_at: when it asked last, in monotonic seconds; at most :data:`SLACK_S` before a greenlet got the hub.
    :ivar asked: what it was told then.
    :ivar delayed: the seconds that the thread had waited for a processor then, ever, but for the last 50 µs of them;
        ``None`` where the system does not tell.
    :ivar tells_delay: whether it does.
    :ivar on_hold: called with a meter, the seconds of a hold longer than :attr:`long_hold_s`, and the processor time
        used in it.
    """

    def __init__(self, clocks: Clocks) -> None:
        import greenlet

        self.clocks = clocks
        self.getcurrent = greenlet.getcurrent
        self.running: dict[Any, GreenMeter] = {}
        self.meters: dict[Any, GreenMeter] = {}
        self.asked_at = time.monotonic()
        self._cpu = time.thread_time()
        self.delayed, self._turns = clocks.waits()
        #: Seconds without the processor, since the system was asked last for the time of waiting for one.
        self._without = 0.0
        self.asked: Asked = (self._cpu, self.delayed, self._turns)
        self.tells_delay = self.delayed is not None
        self.on_hold: Callable[[GreenMeter, float, float], None] | None = None
        self.long_hold_s = float("inf")
        self._puts_off: Callable[[], None] | None = None
        self._put_off_at = self._pace_s = float("inf")
        self._install(greenlet.settrace)

    def _install(self, settrace: Any) -> None:
        meter_of, slack = self.meters.get, SLACK_S
        monotonic, look, leave = time.monotonic, self.look, self.leave

        def switch(event: str, args: Any) -> None:
            # What stands here runs at every switch of the hub, mostly for greenlets that run no task.
            if event == "switch" or event == "throw":
                origin, target = args
                leaving, entering = meter_of(origin), meter_of(target)
                if leaving is not None:
                    now = monotonic()
                    held = now - leaving.since
                    if held > slack:
                        leave(leaving, now)
                    else:
                        leaving.cpu += held
                        if held > leaving.hold:
                            leaving.hold = held
                if entering is not None:
                    entering.since = now = monotonic()
                    if now - self.asked_at > slack:
                        look()
                        entering.since = self.asked_at
                    entering.asked = self.asked
            if previous is not None:
                previous(event, args)

        previous = settrace(switch)
        self._switch, self._previous = switch, previous

    def uninstall(self) -> None:
        """Put back the tracer that was there before."""
        import greenlet

        if greenlet.gettrace() is self._switch:
            greenlet.settrace(self._previous)

    def put_off(self, timer: Callable[[], None] | None, pace_s: float) -> None:
        """Call `timer` now and then while greenlets get the hub and leave it.

        :param pace_s: seconds between two calls, at least.
        """
        self._puts_off, self._pace_s = timer, pace_s
        self._put_off_at = float("inf") if timer is None else 0.0

    def look(self) -> None:
        """Ask the system."""
        cpu, asked_at = self._cpu, self.asked_at
        # Linux ends a thread's turn while it adds up what the thread has used: where it did, time and wait are both
        # read after that.
        self._cpu = time.thread_time()
        self.asked_at = now = time.monotonic()
        if now >= self._put_off_at and self._puts_off is not None:
            self._put_off_at = now + self._pace_s
            self._puts_off()
        # Who has used the processor all the time has not waited for it: that need not be read.
        self._without += now - asked_at - (self._cpu - cpu)
        if self._without >= _NO_WAIT_S:
            self._without = 0.0
            self.delayed, self._turns = self.clocks.waits()
        self.asked = (self._cpu, self.delayed, self._turns)

    def look_again(self) -> float:
        """Ask the system unless it was asked just before; returns the moment, in monotonic seconds."""
        now = time.monotonic()
        if now - self.asked_at > SLACK_S:
            self.look()
            return self.asked_at
        return now

    def leave(self, meter: GreenMeter, now: float) -> None:
        """A greenlet gives up the hub: add up what it used, less the time the hub waited for a processor."""
        held = now - meter.since
        if held <= SLACK_S:
            used = held
        else:
            if now - self.asked_at > SLACK_S:
                self.look()
                now = self.asked_at
                held = now - meter.since
            cpu, delayed, turns = meter.asked
            waited = min(_since(delayed, self.delayed) or 0.0, held)
            # Both may be of a little longer than the hold.
            used = min(self._cpu - cpu + now - self.asked_at, held)
            held -= waited
            if is_wait(waited, self._turns - turns):
                meter.wait += waited
            if held > self.long_hold_s and self.on_hold is not None:
                self.on_hold(meter, held, used)
        meter.cpu += used
        meter.idle += held - used
        if meter.collected > meter.swept:
            collected, meter.swept = meter.collected - meter.swept, meter.collected
            meter.longest = max(meter.longest, held)
            held -= collected
        if held > meter.hold:
            meter.hold = held

    def start(self, task_id: str, task: Any, about: About) -> GreenMeter:
        """Begin to measure the current greenlet."""
        meter = GreenMeter(self, task_id, task, about, self.look_again())
        self.running[meter.greenlet] = self.meters[meter.greenlet] = meter
        return meter

    def adopt(self, greenlet: Any, parent: Run) -> None:
        """Measure a greenlet that a task has spawned, until :meth:`forget`."""
        self.meters[greenlet] = ChildMeter(self, parent, greenlet)

    def forget(self, greenlet: Any) -> None:
        """End :meth:`adopt`."""
        if isinstance(self.meters.get(greenlet), ChildMeter):
            del self.meters[greenlet]
