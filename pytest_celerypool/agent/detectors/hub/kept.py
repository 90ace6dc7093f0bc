"""A task keeps the hub: nothing else in a worker of a green pool runs meanwhile, no task, no timer, no heartbeat."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.hub.foreign import ForeignHub, ForeignHubs
from pytest_celerypool.agent.detectors.hub.samples import Hold, Sample, Watchdog
from pytest_celerypool.agent.meters import ChildMeter, GreenMeter, Run
from pytest_celerypool.trace import Kind

BLOCKED, BUSY = "hub-blocked", "hub-busy"

#: Seconds beyond the threshold after which a hold is reported although it goes on: it may never end.
ENDLESS_S = 0.5

#: What Celery does for a task when its code is over, such as describing the frames of what it raised, takes a few
#: milliseconds of computing; on a machine that is slow and busy 100 were seen, and 140 of waiting for the disk with the
#: source. Of a hold in which no line of the user's was seen, so many times the threshold is no finding; unless it goes
#: on, since such a hold is judged but once.
_CELERYS_OWN = 2.0

#: Greenlets spawned by tasks that are watched at a time.
MOST_CHILDREN = 500

#: How each library runs a function in a thread of the system meanwhile.
_NATIVE = {
    "gevent": "gevent.get_hub().threadpool.apply(function, args)",
    "eventlet": "eventlet.tpool.execute(function, *args)",
}

_OTHER_LIBRARY = (
    "wait by the functions of {pool}, or of the standard library, which the pool has made cooperative; each library "
    "has a hub of its own, and two in one thread stop each other"
)

_YIELD = {"gevent": "gevent.sleep(0)", "eventlet": "eventlet.sleep(0)"}

#: What makes greenlets in eventlet: its package has the functions of its module under the same names.
_SPAWNERS = ("spawn", "spawn_n", "spawn_after")


class HubKept(Detector):
    """Reports what keeps the hub for longer than the threshold, and names the line."""

    kinds: ClassVar[Sequence[Kind]] = (
        Kind(BLOCKED, "fail", "a task stopped all others of a green pool by waiting where the pool cannot", 0.1, "s"),
        Kind(BUSY, "fail", "a task stopped all others of a green pool by computing", 0.1, "s"),
    )

    @classmethod
    def wanted(cls, watch: Any) -> bool:
        """Only greenlets have a hub."""
        return bool(watch.pool.green)

    def install(self) -> None:
        """See the greenlets that tasks spawn, before anything of the user's takes hold of what spawns them."""
        self._tracer = self.watch.recorder.tracer
        self._watchdog: Watchdog | None = None
        self._children: list[Any] = []
        self._pid = os.getpid()
        self._collections = self.watch.recorder.collections
        self._heard: Callable[..., None] | None = None
        self.rest("ended")
        self._watch_spawning()
        self._foreign: dict[Any, ForeignHub] = {}
        self._hubs = ForeignHubs(self, self._waits_elsewhere)

    def begin(self) -> None:
        """Begin to look."""
        if self._tracer is None:
            return
        limits = {kind.name: self.watch.limit(kind.name) for kind in self.kinds if self.watch.on(kind.name)}
        shortest = min(limits.values())
        self._limits = limits
        self._watchdog = Watchdog(
            self._tracer, self.watch.frames, shortest, max(limits.values()) + ENDLESS_S, self._lasts, self._failed
        )
        self._tracer.long_hold_s = shortest
        self._tracer.on_hold = self._held
        self._watchdog.start()

    def started(self, run: Run) -> None:
        """Wake the thread that looks."""
        watchdog = self._watchdog
        if watchdog is not None and watchdog.asleep:
            watchdog.wake()

    def imported(self) -> None:
        """See what comes with the other library."""
        self._hubs.look()

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Let go of the greenlets that have ended."""
        self._forget(lambda child: child.dead)

    def remove(self) -> None:
        """End, the thread too."""
        super().remove()
        self._ignore_spawning()
        if self._tracer is not None:
            self._tracer.on_hold = None
            self._tracer.long_hold_s = float("inf")
        if self._watchdog is not None:
            self._watchdog.stop()
        self._forget(lambda child: True)

    # -- greenlets that tasks spawn

    def _watch_spawning(self) -> None:
        """See every greenlet that is spawned; threads are among them."""
        if self.watch.pool.name == "gevent":
            from gevent import Greenlet

            tracer, spawned = self._tracer, self.watch.guarded(self, self._spawned)

            def heard(greenlet: Any) -> None:
                # The pool's own, one for each task, is none of a task's.
                if tracer is not None and tracer.getcurrent() in tracer.meters:
                    spawned(greenlet)

            self._heard = heard
            Greenlet.add_spawn_callback(heard)
        elif self.watch.pool.name == "eventlet":
            import eventlet
            from eventlet import greenthread

            for owner in (eventlet, greenthread):
                for name in _SPAWNERS:
                    self.patch(owner, name, self._heeded(getattr(owner, name)))

    def _heeded(self, spawn: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of eventlet's that spawns, and says so where a task calls it."""
        tracer, spawned = self._tracer, self.watch.guarded(self, self._spawned)

        @functools.wraps(spawn)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            greenlet = spawn(*args, **kwargs)
            # The pool's own, one for each task, is none of a task's.
            if tracer is not None and tracer.getcurrent() in tracer.meters:
                spawned(greenlet)
            return greenlet

        return replacement

    def _ignore_spawning(self) -> None:
        if self._heard is not None:
            from gevent import Greenlet

            Greenlet.remove_spawn_callback(self._heard)
            self._heard = None

    def _spawned(self, greenlet: Any) -> None:
        run = self._current()
        if run is not None:
            self._adopt(greenlet, run)

    def _current(self) -> Run | None:
        """Return the task that runs, or the one that has spawned the greenlet that does."""
        if self._tracer is None or self._watchdog is None:
            return None
        meter = self._tracer.meters.get(self._tracer.getcurrent())
        return meter.parent if isinstance(meter, ChildMeter) else meter

    def _adopt(self, greenlet: Any, run: Run) -> None:
        tracer = self._tracer
        if tracer is None or greenlet is None or greenlet in tracer.meters or len(self._children) >= MOST_CHILDREN:
            return
        tracer.adopt(greenlet, run)
        self._children.append(greenlet)
        if "ended" in self.resting:
            self.listen("ended")

    def _waits_elsewhere(self, hub: ForeignHub) -> None:
        """A task is about to wait in a hub that is not the pool's: what that keeps is the task's doing."""
        run = self._current()
        if run is not None:
            self._foreign[hub.greenlet] = hub
            self._adopt(hub.greenlet, run)

    def _forget(self, which: Callable[[Any], bool]) -> None:
        gone = [child for child in self._children if which(child)]
        for child in gone:
            self._children.remove(child)
            self._foreign.pop(child, None)
            if self._tracer is not None:
                self._tracer.forget(child)

    # -- holds

    def _held(self, meter: GreenMeter, held: float, used: float) -> None:
        """Judge a hold that has just ended; called by the tracer in the middle of a switch, so nothing may yield."""
        try:
            if os.getpid() != self._pid or self._watchdog is None:  # a child that the user's code has forked
                return
            hold = self._watchdog.of(meter)
            if hold is not None:
                held = max(used, held - self._watchdog.stalled(hold))
            if hold is None or not hold.reported:
                self._judge(meter, hold, held, used, lasts=False)
        except Exception as exc:  # noqa: BLE001 - the greenlet that is switched to is somebody else's
            self._failed(exc)

    def _lasts(self, meter: GreenMeter, hold: Hold, held: float, used: float) -> None:
        """Judge a hold that goes on; called in the thread that looks."""
        self._judge(meter, hold, held, used, lasts=True)

    def _failed(self, exc: Exception) -> None:
        self.watch.recorder.failed("detector HubKept", exc)

    def _judge(self, meter: GreenMeter, hold: Hold | None, held: float, used: float, *, lasts: bool) -> None:
        collected = self._collections.since(meter.since)
        held, used = held - collected, max(0.0, used - collected)
        kind = BUSY if used >= held / 2 else BLOCKED
        limit = self._limits.get(kind)
        if limit is None:
            return
        if hold is None and kind == BLOCKED and held > limit and self._is_of_the_machine(held):
            return
        if hold is not None:
            held *= 1 - hold.excused()
            used *= 1 - hold.excused()
            if kind == BLOCKED and not lasts and hold.contended(held - used, time.thread_time()):
                return
            if not lasts and held < limit * _CELERYS_OWN and hold.is_of_no_line():
                return
        if held > limit:
            self._report(kind, meter, hold, held, used, lasts)

    def _is_of_the_machine(self, held: float) -> bool:
        return self._watchdog is not None and self._watchdog.is_of_the_machine(held)

    def _report(self, kind: str, meter: GreenMeter, hold: Hold | None, held: float, used: float, lasts: bool) -> None:
        run = meter.parent if isinstance(meter, ChildMeter) else meter
        others = [each for each in self.watch.running() if each is not run]
        did = "computing" if kind == BUSY else "waiting in a way that the pool cannot make cooperative"
        pool, effect = self.watch.pool.name, _effect(others)
        seen = None if hold is None else hold.place()
        foreign = self._foreign.get(meter.greenlet)
        if foreign is not None:
            whose, seen = f"the hub of {foreign.library}, in which it waits,", foreign.seen
            remedy = _OTHER_LIBRARY.format(pool=pool)
            how = f"a hub of {foreign.library} was first needed at this line"
        else:
            whose = "a greenlet that it started" if isinstance(meter, ChildMeter) else "it"
            remedy, how = _remedy(kind, pool), _how(hold, seen)
        if lasts:
            effect += "; it went on after that"
            if kind == BLOCKED:
                effect += ": if it waits for another task of this worker, it never ends"
        line = self._line(seen, meter)
        self.watch.report(
            kind,
            run,
            f"{whose} kept the hub for {held:.2f} s by {did}, {effect}",
            [line, *self._evidence(run, seen, how, held, used, others)],
            remedy,
            key=line,
            others=others,
        )

    def _line(self, seen: Sample | None, meter: GreenMeter) -> str:
        """Return the place of the line that did it."""
        frames = self.watch.frames
        if seen is not None:
            place = seen.user or (seen.stack[0] if seen.stack else None)
            if place is not None:
                return frames.place_of(*place)
        # It was over before anybody looked: where the greenlet is now comes right after it.
        frame = frames.user_frame(meter.greenlet.gr_frame) if meter.greenlet.gr_frame is not None else None
        if frame is not None:
            return frames.place(frame)
        code = getattr(getattr(meter.task, "run", None), "__code__", None)
        return (
            frames.place(None) if code is None else frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)
        )

    def _evidence(
        self,
        run: Run,
        seen: Sample | None,
        how: str,
        held: float,
        used: float,
        others: Sequence[Run],
    ) -> Iterator[str]:
        place_of = self.watch.frames.place_of
        if seen is not None:
            inner, outer = _split(seen)
            for place in inner:
                if not self.watch.frames.is_ours(place[0]):
                    yield f"  in {place_of(*place)}"
            for place in outer:
                yield f"  called from {place_of(*place)}"
        yield how
        yield f"held {held:.3f} s without the time spent waiting for a processor; processor time used: {used:.3f} s"
        yield f"task {run.id}" + ("; stood still:" if others else "")
        for other in others[:5]:
            yield f"  {other.task.name}[{other.id}]"
        if len(others) > 5:
            yield f"  and {len(others) - 5} more"


def _how(hold: Hold | None, seen: Sample | None) -> str:
    """Say how the line is known."""
    if hold is None or seen is None:
        return "nobody could look meanwhile: the line is that of the task, or the one where it went on"
    return f"seen at this line {hold.times(seen.user)} of {len(hold.samples)} times while the hub was kept"


def _split(seen: Sample) -> tuple[list[Any], list[Any]]:
    """Return the frames below the user's line, and those that called it."""
    if seen.user is None:
        return [], list(seen.stack[1:])
    number = seen.stack.index(seen.user) if seen.user in seen.stack else len(seen.stack)
    return list(seen.stack[:number]), list(seen.stack[number + 1 :])


def _effect(others: Sequence[Run]) -> str:
    if not others:
        return "and no other task of this worker could have run meanwhile, nor any timer or heartbeat"
    tasks = "1 other task" if len(others) == 1 else f"{len(others)} other tasks"
    return f"and {tasks} of this worker stood still meanwhile"


def _remedy(kind: str, pool: str) -> str:
    native = _NATIVE.get(pool, "a thread pool of the library")
    if kind == BUSY:
        return (
            f"send such tasks to a worker with prefork, run the computation by {native} if it releases the "
            f"interpreter's lock, or yield every few milliseconds by {_YIELD.get(pool, 'sleeping for 0 s')}"
        )
    return (
        f"use a call that the pool has made cooperative (sockets, subprocess, threading.Lock, time.sleep), run this "
        f"one by {native}, or send such tasks to a worker with prefork or threads"
    )
