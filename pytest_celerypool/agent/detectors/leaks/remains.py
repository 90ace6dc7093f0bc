"""Count what the executions of a task leave behind, and tell growth from warm-up.

Whatever a task makes is noted with its run at the moment it is made, by whoever sees that. At the end of the task what
is still there is kept here, under the task and the line of the user's that made it. One execution that leaves
something proves nothing: a thread that is started on first use, a connection that waits for its next use in a pool,
stay too. It is a leak where the executions that follow leave one more each: as many as :attr:`Remains.needed` says,
which is more than the number of tasks of that name that ran at once (a pool that fills), and more than the number of
slots that they ran in (something each thread has of its own). One line of the user's may fill several pools of the
libraries below it: what the same line made in different ways is counted apart.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.holders import Reached, walk
from pytest_celerypool.agent.receivers import connect

if TYPE_CHECKING:
    from types import FrameType

    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_MARK = "remains"


class Made(NamedTuple):
    """Something that a task made.

    :ivar kind: the kind of finding that it would be.
    :ivar place: the user's line that made it.
    :ivar way: the functions between the two.
    :ivar stack: the places from there outwards.
    :ivar text: what it is.
    :ivar there: tells whether it is still there.
    :ivar get: returns the object itself, ``None`` if it is gone.
    """

    kind: str
    place: str
    way: int
    stack: list[str]
    text: str
    there: Callable[[], bool]
    get: Callable[[], Any]


class Left(NamedTuple):
    """The same, left behind.

    :ivar run: the id of the task that made it.
    :ivar slot: the thread of the slot.
    :ivar greenlet: returns the greenlet of the slot while it exists; ``None`` where slots are none.
    :ivar ended: monotonic seconds at which the task ended.
    """

    made: Made
    run: str
    slot: int
    greenlet: Callable[[], Any]
    ended: float


#: What tells one kind of thing from another: kind, task, line of the user's, and way from there.
Key = tuple[str, str, str, int]


class Remains(Detector):
    """Base of the detectors of what is left behind."""

    #: Kinds of things that libraries keep in pools of which tasks of every name take.
    pooled: ClassVar[Container[str]] = ()

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.mark = f"{_MARK}-{type(self).__name__}"
        self._left: dict[Key, list[Left]] = {}
        self._peak: dict[tuple[str, str], int] = {}
        self._reported: set[Key] = set()
        #: Whether the worker, or this child, ends: no task runs any more.
        self.ending = False
        self._disconnect: Callable[[], None] = lambda: None

    def begin(self) -> None:
        """Hear of the end of children too: ``stopping`` is the main process's."""
        if self.watch.pool.forks:
            from celery import signals

            self._disconnect = connect((signals.worker_process_shutdown, self._child_ends))

    def remove(self) -> None:
        """End."""
        self._disconnect()
        self._left.clear()
        super().remove()

    def _child_ends(self, **told: Any) -> None:
        self.watch.guarded(self, self.child_ends)(told.get("exitcode"))

    def child_ends(self, exitcode: int | None) -> None:
        """A child of prefork is about to end."""
        self.look_again()

    def stopping(self) -> None:
        """Look for the last time."""
        self.look_again()

    def forked(self) -> None:
        """What the parent's tasks left is not this child's; it runs none anyway."""
        self._left.clear()
        self._peak.clear()

    # -- noting

    def made(
        self, kind: str, frame: FrameType | None, text: str, there: Callable[[], bool], get: Callable[[], Any]
    ) -> None:
        """Note what the current task just made.

        :param frame: the caller's.
        """
        run = self.watch.current()
        if run is None or not self.watch.on(kind):
            return
        frames = self.watch.frames
        place = frames.user_frame(frame)
        if place is None or _is_celerys_own(frame, place):  # or a library's that no line of the user's called
            return
        name = run.task.name
        at_once = sum(kind in self.pooled or other.task.name == name for other in self.watch.running())
        self._peak[kind, name] = max(self._peak.get((kind, name), 1), at_once)
        thing = Made(kind, frames.place(place), _way(frame, place), frames.stack(place), text, there, get)
        run.marks.setdefault(self.mark, []).append(thing)

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Keep what the task leaves behind."""
        things = run.marks.pop(self.mark, None)
        if things is None:
            return
        now = time.monotonic()
        slot = originals.get_ident()
        tracer = self.watch.recorder.tracer
        greenlet = weakref.ref(tracer.getcurrent()) if tracer is not None else _nothing
        for thing in things:
            if thing.there():
                key = (thing.kind, run.task.name, thing.place, thing.way)
                self._left.setdefault(key, []).append(Left(thing, run.id, slot, greenlet, now))
                if key not in self._reported:
                    self._judge(key, run)

    # -- judging

    def needed(self, kind: str, task: str, left: list[Left]) -> int:
        """Return how many executions must have left something for it to be growth."""
        slots = 1 if self.watch.pool.green else len({each.slot for each in left})
        return max(self._peak.get((kind, task), 1), slots) + int(self.watch.limit(kind)) - 1

    def look_again(self) -> None:
        """Judge everything that was left once more: the worker, or this child, ends."""
        self.ending = True
        for key in list(self._left):
            if key not in self._reported:
                self._judge(key, None)

    def _judge(self, key: Key, run: Run | None) -> None:
        kind, task, place, _ = key
        left = self._left[key] = [each for each in self._left[key] if each.made.there()]
        count = len({each.run for each in left})
        if count < self.needed(kind, task, left):
            return
        why = self.grows(kind, task, left, last=run is None)
        if why is None:
            return
        self._reported.add(key)
        message, details, remedy = why
        newest = left[-1].made
        evidence = [
            place,
            *(f"  called from {line}" for line in newest.stack[1:]),
            *details,
            f"left behind by the executions {', '.join(_ids(left))} in process {os.getpid()}, all still there",
        ]
        self.watch.report(kind, run, message, evidence, remedy, key=place, task=task)

    def grows(self, kind: str, task: str, left: list[Left], *, last: bool) -> tuple[str, list[str], str] | None:
        """Return message, further evidence and remedy if `left` is a leak; ``None`` if that is not sure.

        :param left: what is still there, the oldest first.
        :param last: whether there will be no later look.
        """
        raise NotImplementedError

    def holder_of(self, left: list[Left]) -> Reached | None:
        """Return how the user's globals hold what is left: the newest of it that they hold at all."""
        wanted = {id(thing) for each in left if (thing := each.made.get()) is not None}
        found: Reached | None = None
        for reached in walk(self.watch.frames, lambda value: id(value) in wanted):
            found = reached
        return found

    def is_registry(self, holder: Reached | None, left: list[Left]) -> bool:
        """Whether a mapping holds them, each under a key that is not the id of a task: one for each tenant, say."""
        ids = {each.run for each in left}
        return holder is not None and bool(holder.keys) and not any(str(key) in ids for key in holder.keys)


#: Where Celery publishes for a task: ``delay()``, ``retry()`` and their like, over connections of its own pool.
_PUBLISHERS = (os.path.join("celery", "app", "task.py"), os.path.join("celery", "app", "base.py"))

#: Where Celery has its result backends. Under gevent and eventlet it makes one for each greenlet, which may stay.
_BACKENDS = os.path.join("", "celery", "backends", "")


def _is_celerys_own(frame: FrameType | None, end: FrameType) -> bool:
    """Whether what is made between a frame and another further out is made to publish, or by a result backend."""
    while frame is not None and frame is not end:
        code = frame.f_code
        if code.co_name in ("send_task", "apply_async", "retry") and code.co_filename.endswith(_PUBLISHERS):
            return True
        if _BACKENDS in code.co_filename:
            return True
        frame = frame.f_back
    return False


def _way(frame: FrameType | None, end: FrameType) -> int:
    """Return a number for the functions from a frame out to another."""
    functions = []
    while frame is not None and frame is not end:
        functions.append(frame.f_code)
        frame = frame.f_back
    return hash(tuple(functions))


def _nothing() -> None:
    return None


def _ids(left: list[Left]) -> list[str]:
    ids = list(dict.fromkeys(each.run for each in left))
    return ids if len(ids) <= 4 else [*ids[:3], f"… {len(ids) - 3} more"]
