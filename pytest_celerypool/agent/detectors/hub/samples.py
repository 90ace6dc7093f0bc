"""A thread of the system that looks, while a task keeps the hub, at which line it is.

The hub cannot tell that: it gets to run when the hold is over. The thread is one that no library has patched, and
touches nothing of the hub's: it reads what the tracer of switches has noted, and the frames of the hub's thread.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from types import FrameType
from typing import Any, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors.hub import timer
from pytest_celerypool.agent.detectors.hub.stalls import Counters, Counts, is_of_the_machine
from pytest_celerypool.agent.frames import TRACER, Frames
from pytest_celerypool.agent.meters import NEVER, SLACK_S, GreenMeter, ProcFile, SwitchTracer

#: Shares of the threshold: after how long without a sign of the hub the thread looks, from how long on a hold is one to
#: look at, how often it is looked at, and how often the hub gives a sign at most.
LOOK, BEGIN, SAMPLE, SIGN = 0.4, 0.2, 0.2, 0.2

#: Seconds after which the thread looks although the hub has given signs: of what the machine did meanwhile, what is
#: older excuses more holds.
LONGEST_S = 0.25

#: Seconds without a task after which the thread sleeps until the next one.
IDLE_S = 1.0

#: Seconds that the thread may take to end.
END_S = 1.0

#: Frames kept of a stack, and looks at one hold that are kept.
DEEPEST = 14
MOST = 500

#: Where the time goes to no fault of the line: Python loading a module, which happens once, and the system making a
#: process, which waits for a processor of its own.
_IMPORTING = "<frozen importlib._bootstrap"
_STARTING = ("_execute_child", "_fork_and_exec", "fork_and_exec")

#: What stands between in a stack, where the agent sees threads begin, is nobody's concern.
_OURS = os.path.dirname(os.path.abspath(__file__))

_since: Callable[[GreenMeter], float] = attrgetter("since")

Place = tuple[str, int, str]


class Sample(NamedTuple):
    """What the hub's thread did at one moment.

    :ivar user: file, line and function of the innermost frame of the user's, ``None`` if there is none.
    :ivar stack: the same of all frames, the innermost first, up to where Celery called the task.
    :ivar excused: whether it was loading a module or starting a process.
    :ivar position: tells apart where in its code the innermost frame was.
    """

    user: Place | None
    stack: tuple[Place, ...]
    excused: bool
    position: tuple[int, int]


def sample(frame: FrameType | None, frames: Frames) -> Sample:
    """Describe the innermost frame of a thread, and those that called it."""
    user: Place | None = None
    stack: list[Place] = []
    excused = False
    position = (0, 0) if frame is None else (id(frame.f_code), frame.f_lasti)
    while frame is not None and not frame.f_code.co_filename.endswith(TRACER):
        code = frame.f_code
        place = (code.co_filename, frame.f_lineno, code.co_name)
        if code.co_filename.startswith(_IMPORTING) or code.co_name in _STARTING:
            excused = True
        if user is None and frames.is_user(code.co_filename):
            user = place
        if len(stack) < DEEPEST and not code.co_filename.startswith(_OURS):
            stack.append(place)
        frame = frame.f_back
    return Sample(user, tuple(stack), excused, position)


class Hold:
    """One hold of the hub, and what was seen of it.

    It holds nothing of the greenlet's: this thread must not be the one that drops the last reference to anything of
    the user's.

    :ivar since: when it began, in monotonic seconds.
    :ivar reported: whether it has been reported while it lasted.
    :ivar stalled: seconds in which the thread that looks may have kept the hub's thread from going on.
    """

    def __init__(self, meter: GreenMeter, cpu: float, began: float = 0.0, waited: float = 0.0) -> None:
        """Begin.

        :param cpu: seconds of processor time that the hub's thread has used so far.
        :param began: the same when the hold began.
        :param waited: seconds that the thread that looks had waited for a processor before it looked.
        """
        self._meter = id(meter)
        self.since = meter.since
        self.samples: list[Sample] = []
        self.reported = False
        self.stalled = 0.0
        self._cpu = cpu
        self._process = time.process_time()
        self._last_cpu = began
        self._last_waited = waited

    def of(self, meter: GreenMeter) -> bool:
        """Whether it is what a meter is measuring now."""
        return self.since == meter.since and self._meter == id(meter)

    def excused(self) -> float:
        """Return which share of it the line is not to blame for."""
        return sum(each.excused for each in self.samples) / len(self.samples) if self.samples else 0.0

    def place(self) -> Sample | None:
        """Return the sample that stands for it: of the line at which it was seen most often."""
        blamed = [each for each in self.samples if not each.excused]
        if not blamed:
            return None
        ((user, _),) = Counter(each.user for each in blamed).most_common(1)
        return next(each for each in blamed if each.user == user)

    def is_of_no_line(self) -> bool:
        """Whether it was looked at, and each time none of the user's code was running."""
        return bool(self.samples) and all(each.user is None for each in self.samples)

    def times(self, user: Place | None) -> int:
        """Return at how many of the samples a line was seen."""
        return sum(each.user == user for each in self.samples)

    def looked(self, cpu: float, waited: float) -> None:
        """Note how the thread that looks has kept the hub's thread waiting since it looked last.

        It needs the interpreter's lock to look. Whoever gives the lock up stands still until the one that asked for it
        has a processor, and until that gives it back; on a busy machine that takes a while, and no figure of the hub's
        thread tells. One that has used no processor meanwhile was in one call of C, which had given the lock up before.

        :param cpu: seconds of processor time that the hub's thread has used so far.
        :param waited: seconds that the thread that looks has waited for a processor so far.
        """
        if cpu > self._last_cpu:
            self.stalled += max(0.0, waited - self._last_waited)
        self._last_cpu, self._last_waited = cpu, waited

    def contended(self, idle: float, cpu: float) -> bool:
        """Whether it may have been waiting for the interpreter's lock, which other threads had.

        :param idle: seconds of it in which the hub's thread used no processor.
        :param cpu: seconds of processor time that the thread has used so far.
        """
        others = time.process_time() - self._process - (cpu - self._cpu)
        return others > idle / 2 and len({each.position for each in self.samples}) >= len(self.samples)


class Watchdog:
    """The thread.

    :param tracer: of the switches of the hub; this object is made in the thread of the hub.
    :param limit: from how many seconds on a hold is one.
    :param endless: after how many seconds a hold that lasts is reported.
    :param report: is called, in the thread, with the meter of a hold that lasts, what was seen of it, its seconds less
        those in which it waited for a processor, and the processor time used in it.
    :param failed: is called, in the thread, with what ended it.
    """

    def __init__(
        self,
        tracer: SwitchTracer,
        frames: Frames,
        limit: float,
        endless: float,
        report: Callable[[GreenMeter, Hold, float, float], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._tracer = tracer
        self._frames = frames
        self._limit = limit
        self._endless = endless
        self._report = report
        self._failed = failed
        self._hub = originals.get_ident()
        self._hub_id = originals.get_native_id()
        self._clock = _processor_clock(self._hub)
        self._delay = ProcFile(_waits())
        #: The same of the thread that looks: for itself, and for the hub's thread, since a reader has one buffer.
        self._own: ProcFile | None = None
        self._own_in_hub: ProcFile | None = None
        self._rested = 0.0
        self._counters: Counters | None = None
        #: What the system had counted when this thread looked last.
        self._counted: Counts | None = None
        self._timer = timer.make(limit * LOOK)
        self._over = originals.allocate_lock()
        self._end = False
        #: Whether the thread sleeps until :meth:`wake`.
        self.asleep = False
        #: The hold that lasts, or the last one.
        self.hold: Hold | None = None

    def start(self) -> None:
        """Begin to look."""
        self._over.acquire()
        self._end = False
        if self._timer.puts_off:
            self._tracer.put_off(self._timer.put_off, self._limit * SIGN)
        self._pid = os.getpid()
        originals.start_new_thread(self._run, ())

    def wake(self) -> None:
        """Go on looking: a task begins."""
        self.asleep = False
        if self._counters is not None:
            self._counted = self._counters.read()
        self._timer.fire()

    def stop(self) -> bool:
        """End the thread; returns whether it has ended."""
        if os.getpid() != self._pid:  # a child that the user's code has forked: no thread of its parent is in it
            return True
        self._end = True
        self._tracer.put_off(None, 0.0)
        self._timer.fire()
        ended = self._over.acquire(True, END_S)
        if ended:
            self._over.release()
            for each in (self._delay, self._own, self._own_in_hub, self._counters, self._timer):
                if each is not None:
                    each.close()
        return ended

    def of(self, meter: GreenMeter) -> Hold | None:
        """Return what was seen of the hold that a greenlet is just ending."""
        hold = self.hold
        return hold if hold is not None and hold.of(meter) else None

    def stalled(self, hold: Hold) -> float:
        """Return the seconds of a hold that is just ending in which this thread may have kept it from going on."""
        hold.looked(time.thread_time(), _seconds(self._own_in_hub))
        return hold.stalled

    def is_of_the_machine(self, held: float) -> bool:
        """Whether a hold that is just ending, and that this thread could not look at, may be no fault of the task.

        :param held: its seconds.
        """
        now = None if self._counters is None else self._counters.read()
        return is_of_the_machine(self._counted, now, held)

    # -- in the thread

    def _run(self) -> None:
        self._own, self._own_in_hub = ProcFile(_waits()), ProcFile(_waits())
        counters = self._counters = Counters(originals.get_native_id(), self._hub_id)
        try:
            self._look(counters)
        except Exception as exc:  # noqa: BLE001 - it looks at what other threads change; the worker goes on
            self._failed(exc)
        finally:
            self._over.release()

    def _look(self, counters: Counters) -> None:
        meters = self._tracer.meters
        regular = LONGEST_S if self._timer.puts_off else self._limit * LOOK
        pause, used = regular, time.monotonic()
        while True:
            self._rested = _seconds(self._own)
            self._counted = counters.look()
            self._timer.wait(pause)
            if self._end:
                return
            now = time.monotonic()
            pause = regular
            if meters:
                used = now
                # A greenlet that got the hub within this time has it for no longer; it may keep it.
                if now - self._tracer.asked_at < self._limit * BEGIN + SLACK_S:
                    self._timer.put_off()
                elif self._seen_last(now):
                    pause = self._limit * SAMPLE
            elif now - used > IDLE_S:
                self.asleep = True
                if not meters:  # a task that has begun since sees that this thread sleeps
                    pause = -1.0

    def _seen_last(self, now: float) -> bool:
        """Look at the greenlet that got the hub last; returns whether it keeps it."""
        meter = max(list(self._tracer.meters.values()), key=_since, default=None)
        return meter is not None and self._seen(meter, now)

    def _seen(self, meter: GreenMeter, now: float) -> bool:
        """Look at a greenlet; returns whether it keeps the hub."""
        since = meter.since
        greenlet = meter.greenlet
        if since == NEVER or now - since < self._limit * BEGIN:
            return False
        # A greenlet that is running has no frame: it shows that of where it was left.
        if greenlet is None or greenlet.gr_frame is not None or greenlet.dead:
            return False
        frame = sys._current_frames().get(self._hub)
        if meter.since != since:
            return False
        hold = self.hold
        if hold is None or not hold.of(meter):
            hold = self.hold = Hold(meter, self._cpu(), meter.asked[0], self._rested)
        hold.looked(self._cpu(), _seconds(self._own))
        if len(hold.samples) < MOST:
            hold.samples.append(sample(frame, self._frames))
        del frame
        if now - since > self._endless and not hold.reported:
            self._lasts(meter, hold, now)
        return True

    def _lasts(self, meter: GreenMeter, hold: Hold, now: float) -> None:
        """Report a hold that goes on, unless it has waited for a processor, or for a module, for most of it."""
        cpu, delay, _ = meter.asked
        nanoseconds = self._delay.second()
        waited = 0.0 if delay is None or nanoseconds is None else max(0.0, nanoseconds / 1e9 - delay)
        held = now - hold.since - waited - hold.stalled
        used = min(held, max(0.0, self._cpu() - cpu))
        if used < held / 2 and is_runnable(self._hub_id):
            # It waits for nothing but a processor; the system adds that wait up only when it has got one.
            return
        if held > self._endless:
            hold.reported = True
            self._report(meter, hold, held, used)

    def _cpu(self) -> float:
        """Return the seconds of processor time that the hub's thread has used so far."""
        return time.clock_gettime(self._clock)


def is_runnable(native_id: int) -> bool:
    """Whether a thread of this process could go on, if it does not; false where the system does not tell."""
    try:
        fd = originals.open_file(f"/proc/self/task/{native_id}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # The name before the state may contain anything: proc_pid_stat(5).
        return originals.read_at(fd, 512, 0).rpartition(b")")[2].split()[0] == b"R"
    finally:
        os.close(fd)


def _waits() -> str:
    """Return the path of the file that tells how long the current thread has waited for a processor."""
    return f"/proc/self/task/{originals.get_native_id()}/schedstat"


def _seconds(waits: ProcFile | None) -> float:
    """Return how long a thread has waited for a processor; always 0 where the system does not tell."""
    nanoseconds = None if waits is None else waits.second()
    return (nanoseconds or 0) / 1e9


def _processor_clock(ident: int) -> Any:
    """Return the clock of a thread's processor time, or that of the process, where the system has none."""
    clock = getattr(time, "pthread_getcpuclockid", None)
    return time.CLOCK_PROCESS_CPUTIME_ID if clock is None else clock(ident)
