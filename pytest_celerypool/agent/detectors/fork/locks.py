"""Locks that the parent held at the fork, mostly in another thread: in a child nobody ever releases them."""

from __future__ import annotations

import _thread
import ast
import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.holders import attributes_of, user_threads, walk
from pytest_celerypool.agent.syntax import tree_of
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

_POLL_S = 0.05

#: A task that has been in the same instruction for so long, in seconds, is blocked.
_BLOCKED_S = 0.4

#: The same in a child that has other threads: one of them may be about to release the lock.
_BLOCKED_AMONG_OTHERS_S = 3.0

_LOCK: Any = type(_thread.allocate_lock())
_RLOCK: Any = _thread.RLock


def _is_lock(value: Any) -> bool:
    return issubclass(type(value), _LOCK | _RLOCK | threading.Semaphore)


def is_held(lock: Any) -> bool:
    """Whether a lock is held by whomever; of a semaphore, whether nobody can have it."""
    if isinstance(lock, threading.Semaphore):
        return not attributes_of(lock).get("_value", 1)
    if isinstance(lock, _LOCK):
        return bool(lock.locked())
    return repr(lock).startswith("<locked")  # Python 3.14 gave it a method


class HeldLocks(Detector):
    """Sees a task that waits for such a lock."""

    kinds: ClassVar[Sequence[Kind]] = (
        Kind("held-lock", "fail", "a task waits for a lock that another thread held when the parent forked"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._threads: list[str] = []
        #: The locks of the user's modules, once they are looked for.
        self._own: list[Any] | None = None
        self._held: dict[int, Any] = {}

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def begin(self) -> None:
        """See every fork beforehand."""
        from billiard import popen_fork

        self.before(popen_fork.Popen, "_launch", self._about_to_fork)

    def _about_to_fork(self, *_: Any) -> None:
        if self._own is None:  # before the first child: the others begin as soon
            self._own = [reached.value for reached in walk(self.watch.frames, _is_lock)]
        frames, alive = self.watch.frames, sys._current_frames()
        self._threads = [
            f"the thread {thread.name!r} of the parent was here: {frames.place(frame)}"
            for thread in user_threads(frames)
            if (frame := frames.user_frame(alive.get(thread.ident or 0))) is not None
        ]

    def forked(self) -> None:
        """Look which locks are held: by nobody in this process, if not by its only thread."""
        me = str(originals.get_ident())
        # Without such a thread it is a lock of the module's own, taken at import.
        locks = filter(_is_lock, gc.get_objects()) if self._threads else self._own or []
        self._held = {id(lock): lock for lock in locks if is_held(lock) and f"owner={me} " not in repr(lock)}
        if self._held:
            originals.start_new_thread(self.watch.guarded(self, self._watch_slot), ())

    def _watch_slot(self) -> None:
        main = threading.main_thread().ident or 0
        since, where = time.monotonic(), None
        while True:
            originals.sleep(_POLL_S)
            frame = sys._current_frames().get(main)
            now = time.monotonic()
            here = None if frame is None else (id(frame), frame.f_lasti)
            if here != where or not self.watch.running():
                since, where = now, here
                continue
            patience = _BLOCKED_S if len(threading.enumerate()) == 1 else _BLOCKED_AMONG_OTHERS_S
            if frame is not None and now - since > patience and self._report(frame, now - since):
                return

    def _report(self, frame: FrameType, waited: float) -> bool:
        frames = self.watch.frames
        own = frames.user_frame(frame)
        named = itertools.chain(named_on_line(frame), named_on_line(own) if own is not None else ())
        lock = next((one for _, one in named if id(one) in self._held and is_held(one)), None)
        runs = self.watch.running()
        if lock is None or not runs:
            return False
        whose = "another thread of the parent" if self._threads else "the parent"
        lacks = "not the thread" if self._threads else "is not who releases it"
        self.watch.report(
            "held-lock",
            runs[0],
            f"the task waits for a lock that {whose} held at the moment of the fork: under prefork the child has the "
            f"lock, held, and {lacks}, so nobody ever releases it in child {os.getpid()}",
            [
                frames.place(own if own is not None else frame),
                *(f"  called from {line}" for line in frames.stack(own)[1:]),
                f"{lock!r}, held since before child {os.getpid()} began; waited for {waited:.1f} s so far",
                *self._threads,
            ],
            "make the lock, and start the thread, in each child (a receiver of worker_process_init), or give the lock "
            "anew in os.register_at_fork(after_in_child=…)",
        )
        return True


def named_on_line(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """Yield what the names and attributes on a frame's line mean there, without calling anything."""
    tree = tree_of(frame.f_code.co_filename)
    line = frame.f_lineno
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Name | ast.Attribute) and node.lineno <= line <= (node.end_lineno or node.lineno):
            value = _value(node, frame)
            if value is not None:
                yield ast.unparse(node), value
                # A condition, an event and a queue have their lock inside.
                for one in attributes_of(value).values():
                    if isinstance(one, _LOCK | _RLOCK):
                        yield ast.unparse(node), one


def _value(node: ast.expr, frame: FrameType) -> Any:
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        if owner is None:
            return None
        own = attributes_of(owner).get(node.attr)
        return own if own is not None else _of_class(owner, node.attr)
    return None


def _of_class(owner: Any, name: str) -> Any:
    for base in (owner if isinstance(owner, type) else type(owner)).__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None
