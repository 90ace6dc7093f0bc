"""Threads and greenlets that tasks leave running, and threads whose work is lost with their child."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent.detectors.code.endless import endless, queue_of_executor
from pytest_celerypool.agent.detectors.holders import walk
from pytest_celerypool.agent.detectors.leaks.remains import Left, Remains
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

#: Seconds: a worker has begun hundreds of tasks before a timer of so many has come to its end.
_LONG_S = 30.0

#: Seconds after the end of its task in which a thread that was told to end may not have noticed yet.
_SETTLED_S = 0.3

#: What says nothing of whose a thread is.
_PLAIN = (str, bytes, int, float, bool, type(None), type, ModuleType, FunctionType, BuiltinFunctionType)

#: What billiard's child exits with when it is replaced after so many tasks.
_RECYCLED = 0x9B


def _is_alive(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()


def _waits_long(thing: Any) -> str | None:
    """Return why a timer is as good as one that never ends; nothing of any other thread, and of a greenlet."""
    if isinstance(thing, threading.Timer) and thing.interval >= _LONG_S:
        return f"waits {thing.interval:g} s for its time, since nobody cancels it"
    return None


def _frames_of(things: list[Any]) -> list[FrameType | None]:
    """Return the innermost frames of threads, or of greenlets."""
    current = sys._current_frames()
    return [
        current.get(each.ident or 0) if isinstance(each, threading.Thread) else getattr(each, "gr_frame", None)
        for each in things
    ]


def _goes_on(greenlet: Any) -> bool:
    return greenlet is not None and not greenlet.dead


class Threads(Remains):
    """Threads and greenlets that tasks start and nobody ends."""

    kinds: ClassVar[Sequence[Kind]] = (
        Kind(
            "leaked-thread",
            "fail",
            "each execution of a task leaves a thread running that does not end",
            3,
            "executions",
        ),
        Kind(
            "leaked-greenlet",
            "fail",
            "each execution of a task leaves a greenlet running that does not end",
            3,
            "executions",
        ),
        Kind("thread-lost", "fail", "a child was replaced while a thread of a task had not finished its work"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        #: By task, line and way: when it was asked whether what is left is forsaken, and the answer.
        self._forsaken: dict[tuple[str, str, int], tuple[float, bool]] = {}

    def install(self) -> None:
        """Hear of every thread, or under a green pool of every greenlet."""
        if not self.watch.pool.green:
            self.after(threading.Thread, "start", self._started_thread)
        elif self.watch.pool.name == "eventlet":
            self._hear_of_eventlet()
        else:
            self._hear_of_gevent()

    def remove(self) -> None:
        """End."""
        if self.watch.pool.green and self.watch.pool.name != "eventlet":
            import gevent

            gevent.Greenlet.remove_spawn_callback(self._spawned)
        super().remove()

    # -- threads

    def _started_thread(self, _: None, thread: threading.Thread) -> None:
        if self.watch.current() is not None:
            alive = weakref.ref(thread)
            self.made("leaked-thread", sys._getframe(), thread.name, lambda: _is_alive(alive()), alive)

    # -- greenlets

    def _hear_of_gevent(self) -> None:
        import gevent

        current, made = self.watch.current, self.watch.guarded(self, self._made_greenlet)

        def spawned(greenlet: Any) -> None:
            # The pool's own, one for each task, is none of a task's.
            if current() is not None:
                made(greenlet)

        self._spawned = spawned
        gevent.Greenlet.add_spawn_callback(spawned)

    def _hear_of_eventlet(self) -> None:
        from eventlet import greenthread

        self.after(
            greenthread.GreenThread, "__init__", lambda _, thread, *__: self._made_greenlet(thread), in_task=True
        )
        # A thread of eventlet's is a bare greenlet.
        self.after(greenthread, "_spawn_n", lambda made, *_: self._made_greenlet(made[1]), in_task=True)

    def _made_greenlet(self, greenlet: Any) -> None:
        alive = weakref.ref(greenlet)
        self.made("leaked-greenlet", sys._getframe(), type(greenlet).__name__, lambda: _goes_on(alive()), alive)

    # -- judging

    def needed(self, kind: str, task: str, left: list[Left]) -> int:
        """Return how many must be left: fewer greenlets, where nobody could ever take them up again, as out of a pool.

        What a thread keeps for itself is not to be seen from another; a greenlet's own is gone with it.
        """
        needed, limit = super().needed(kind, task, left), int(self.watch.limit(kind))
        if needed <= limit or kind != "leaked-greenlet":
            return needed
        now = time.monotonic()
        where = task, left[0].made.place, left[0].made.way
        asked_at, forsaken = self._forsaken.get(where, (-_SETTLED_S, False))
        if now - asked_at >= _SETTLED_S or self.ending:
            forsaken = self._are_forsaken(left, limit, now)
            self._forsaken[where] = now, forsaken
        return limit if forsaken else needed

    def _are_forsaken(self, left: list[Left], limit: int, now: float) -> bool:
        """Whether enough of what is left runs without an end, and no global of the user's leads to any of it.

        Nor to what it works on: a client out of a pool, for one, whose connection it keeps alive.
        """
        settled = [each for each in left if self.ending or now - each.ended > _SETTLED_S]
        if len({each.run for each in settled}) < limit:
            return False
        things = [thing for each in settled if (thing := each.made.get()) is not None]
        frames = _frames_of(things)
        # What a library runs it may well know how to end, or to use again.
        if not all(endless(frame) and self.watch.frames.user_frame(frame) is not None for frame in frames):
            return False
        held = {id(thing) for thing in things} | {id(each) for frame in frames for each in self._works_on(frame)}
        return not any(walk(self.watch.frames, lambda value: id(value) in held))

    def _works_on(self, frame: FrameType | None) -> Iterator[Any]:
        """Yield what the functions of a thread or greenlet have in their names, but for plain values."""
        while frame is not None:
            filename = frame.f_code.co_filename
            if self.watch.frames.is_user(filename) or filename.endswith("threading.py"):
                yield from (value for value in frame.f_locals.values() if not issubclass(type(value), _PLAIN))
            frame = frame.f_back

    def grows(self, kind: str, task: str, left: list[Left], *, last: bool) -> tuple[str, list[str], str] | None:
        """Those that may still end by themselves are no leak yet."""
        things = [thing for each in left if (thing := each.made.get()) is not None]
        frames = _frames_of(things)
        whys = [(frame, endless(frame) or _waits_long(thing)) for frame, thing in zip(frames, things, strict=True)]
        # The newest has perhaps not come to its loop yet.
        sure = [(frame, why) for frame, why in whys if why is not None]
        if len(sure) < len(things) - 1 or len(sure) < 2 or self.is_registry(self.holder_of(left), left):
            return None
        # An executor makes threads until it has as many as it may: all of them are one thing.
        queues = [queue_of_executor(frame) for frame, _ in whys]
        owners = {id(thing if queue is None else queue) for thing, queue in zip(things, queues, strict=True)}
        if len(owners) < self.needed(kind, task, left):
            return None
        frame, why = sure[-1]
        what = "thread" if kind == "leaked-thread" else "greenlet"
        count = len(things)
        harm = (
            f"under {self.watch.pool.name} the process keeps each with its stack until no thread can be started"
            if what == "thread"
            else f"under {self.watch.pool.name} the hub serves each of them for ever, and their memory is never freed"
        )
        return (
            f"each of {len({each.run for each in left})} executions left a {what} running that {why}: "
            f"{count} by now, and {harm}",
            [f"the {what} is here: {place}" for place in self._where(frame)],
            f"end the {what} before the task ends (a flag that the task sets, join, a with block), or start one for "
            "all executions when it is first needed",
        )

    def _where(self, frame: FrameType | None) -> list[str]:
        frames = self.watch.frames
        own = frames.user_frame(frame) if frame is not None else None
        return [frames.place(own if own is not None else frame)]

    # -- work that is lost

    def child_ends(self, exitcode: int | None) -> None:
        """Look for threads that have not finished; a child that is replaced takes them with it."""
        super().child_ends(exitcode)
        if exitcode != _RECYCLED:
            return
        frames = sys._current_frames()
        for (kind, task, place, _), left in self._left.items():
            for each in left:
                thread = each.made.get()
                if kind != "leaked-thread" or not each.made.there() or thread is None:
                    continue
                frame = frames.get(thread.ident)
                if frame is None or endless(frame) is not None or self.watch.frames.user_frame(frame) is None:
                    continue
                self.watch.report(
                    "thread-lost",
                    None,
                    "the child was replaced (worker_max_tasks_per_child) while a thread that the task had started was "
                    "not finished: prefork ends the process without waiting, and what the thread had to do is lost",
                    [
                        place,
                        *(f"  called from {line}" for line in each.made.stack[1:]),
                        *(f"the thread was here: {line}" for line in self._where(frame)),
                        f"started by {each.run}; process {os.getpid()}",
                    ],
                    "wait for the thread before the task ends, or publish a task for that work",
                    key=place,
                    task=task,
                )
                break
