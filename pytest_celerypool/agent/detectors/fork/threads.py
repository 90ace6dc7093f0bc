"""Threads of the parent that its children rely on and do not have: a fork copies the forking thread alone."""

from __future__ import annotations

import gc
import os
import queue
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.code.endless import endless
from pytest_celerypool.agent.detectors.holders import attributes_of, is_user_thread, target_of
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from types import FrameType

    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: Threads of these are no concern of a task.
_OTHERS = ("celery", "kombu", "billiard", "pytest_celerypool", "_pytest", "execnet", "xdist")

#: Methods by which a thread lets others go on.
_BRINGS = {"set", "notify", "notify_all", "put", "put_nowait", "release"}

_REMEDY = (
    "start the thread in each child: on first use (and again if os.getpid() has changed), or in a receiver of "
    "worker_process_init"
)


class Ghost(NamedTuple):
    """A thread that the parent had when it forked.

    :ivar place: where the user started it, or what it runs.
    :ivar users: whether its code is the user's.
    :ivar why: why it would never have ended by itself, ``None`` if it might.
    :ivar at: where it was.
    """

    thread: threading.Thread
    place: str
    users: bool
    why: str | None
    at: str


class MissingThreads(Detector):
    """Sees tasks that need a thread of the parent."""

    kinds: ClassVar[Sequence[Kind]] = (
        Kind("missing-thread", "fail", "a task relies on a thread that was started before the fork"),
        Kind("unforked-thread", "warn", "a thread that was started before the fork does not run in the children"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._places: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()
        self._ghosts: list[Ghost] = []
        self._touched: dict[int, tuple[Any, Ghost]] = {}
        self._loops: dict[int, tuple[Any, threading.Thread]] = {}
        self._futures: set[int] = set()
        self._reported: set[Any] = set()
        self._missed: set[threading.Thread] = set()
        self._told = True
        self._ending: Run | None = None

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def install(self) -> None:
        """Note where threads are started."""
        self.after(threading.Thread, "start", self._started)

    def begin(self) -> None:
        """See every fork beforehand."""
        from billiard import popen_fork

        self.before(popen_fork.Popen, "_launch", self._about_to_fork)

    def _started(self, _: None, thread: threading.Thread) -> None:
        frame = self.watch.frames.user_frame(sys._getframe())
        if frame is not None:
            self._places[thread] = self.watch.frames.place(frame)

    def _about_to_fork(self, *_: Any) -> None:
        frames, alive = self.watch.frames, sys._current_frames()
        self._ghosts, self._loops = [], {}
        for thread in threading.enumerate():
            if thread in (threading.main_thread(), threading.current_thread()) or _is_others(thread):
                continue
            frame = alive.get(thread.ident or 0)
            code = getattr(target_of(thread), "__code__", None)
            runs = f"it runs {code.co_qualname}" if code is not None else f"thread {thread.name!r}"
            if code is not None:
                runs = frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)
            own = frames.user_frame(frame)
            self._loops |= {id(loop): (loop, thread) for loop in _loops_of(frame)}
            self._ghosts.append(
                Ghost(
                    thread,
                    self._places.get(thread, runs),
                    is_user_thread(frames, thread, frame),
                    endless(frame) or _starts_again(thread),
                    frames.place(own if own is not None else frame),
                )
            )
        # Without a thread that is lost none of them waits for one.
        self._futures = {id(future) for future in _pending_futures()} if self._ghosts else set()

    def forked(self) -> None:
        """Watch, in a child of a parent that had threads, what would need them."""
        self._touched = {id(thing): (thing, ghost) for ghost in self._ghosts for thing in _touched(ghost.thread)}
        self._told = not self._ghosts
        self._reported.clear()
        self._missed.clear()
        self._watch_executors()
        if self._ghosts:
            self._watch_loops()
            self.before(threading.Condition, "wait", self._waits)
            self.after(threading.Condition, "wait", self._waited)
            self.after(queue.Queue, "put", self._put)
        else:
            self.rest("ended")

    # -- executors

    def _watch_executors(self) -> None:
        if "concurrent.futures.thread" in sys.modules:
            from concurrent.futures import ThreadPoolExecutor

            self.after(ThreadPoolExecutor, "submit", self._submitted)
        if "concurrent.futures.process" in sys.modules:
            from concurrent.futures import ProcessPoolExecutor

            self.before(ProcessPoolExecutor, "submit", self._submits)
        if "multiprocessing.pool" in sys.modules:
            from multiprocessing.pool import Pool

            self.before(Pool, "_check_running", self._uses_pool)

    def _submitted(self, _: Any, executor: Any, *__: Any, **___: Any) -> None:
        threads = executor._threads
        if threads and not any(thread.is_alive() for thread in threads):
            self._report_executor(executor, "its threads were", 2)

    def _submits(self, executor: Any, *_: Any, **__: Any) -> None:
        thread = executor._executor_manager_thread
        if thread is not None and not thread.is_alive():
            self._report_executor(executor, "the thread that serves it was", 1)

    def _uses_pool(self, pool: Any) -> None:
        thread = getattr(pool, "_task_handler", None)
        if thread is not None and not thread.is_alive() and pool._state == "RUN":
            self._report_executor(pool, "the threads that serve it were", 3)

    def _report_executor(self, executor: Any, whose: str, count: int) -> None:
        name = type(executor).__name__
        self._report(
            executor,
            f"the task hands work to a {name} that was used before the fork: {whose} started in the parent and "
            f"{'is' if count == 1 else 'are'} not in child {os.getpid()}, so under prefork nothing does the work and "
            "whoever waits for it waits for ever",
            [f"{name} {executor!r}: no thread of it is alive in this process; the parent is {family.main_pid()}"],
            "make the executor in each child: on first use, or in a receiver of worker_process_init",
        )

    # -- loops of asyncio

    def _watch_loops(self) -> None:
        if self._loops:
            from asyncio import base_events

            self.before(base_events.BaseEventLoop, "call_soon_threadsafe", self._hands_over)

    def _hands_over(self, loop: Any, *_: Any, **__: Any) -> None:
        """A task hands a coroutine to a loop that a thread of the parent runs."""
        thread = self._loops.get(id(loop), (None, None))[1]
        if thread is None or self.watch.current() is None:
            return
        # Who runs the loop in a new thread of this process sets the number anew.
        if any(each.ident == loop._thread_id for each in threading.enumerate()):
            return
        ghost = next(each for each in self._ghosts if each.thread is thread)
        self._report(
            loop,
            "the task hands work to an event loop that a thread runs which was started before the fork: it is not in "
            f"child {os.getpid()}, so under prefork nothing runs the loop: who waits for a result waits for ever",
            self._about(ghost),
            "start the loop and its thread in each child: on first use, or in a receiver of worker_process_init",
        )

    # -- queues, events, conditions

    def _alone(self) -> bool:
        """Whether this process has no thread but the one of the task, and ours; one in C may bring anything."""
        frames = sys._current_frames()
        main, is_ours = threading.main_thread().ident, self.watch.frames.is_ours
        others = [frame for key, frame in frames.items() if key != main]
        if len(threading.enumerate()) > 1 or not all(is_ours(_file_of_thread(frame)) for frame in others):
            return False
        return _system_threads(len(frames)) == len(frames)

    def _waits(self, condition: Any, timeout: float | None = None) -> None:
        if timeout is None and self.watch.current() is not None and self._alone():
            ghost = self._ghost_of(condition) or self._ghosts[0]
            self._report(
                condition,
                f"the task waits without a limit for what only another thread can bring, and child {os.getpid()} has "
                f"none: the parent had {_count(self._ghosts)} when it forked, and a fork copies none of them, so under "
                "prefork the task never ends",
                self._about(ghost),
                _REMEDY,
            )

    def _waited(self, came: bool, condition: Any, timeout: float | None = None) -> None:
        if came or timeout is None or self.watch.current() is None or not self._alone():
            return
        ghost = self._ghost_of(condition)
        if ghost is None and self._is_of_future(condition):
            self._report(
                condition,
                f"the task waited {timeout:g} s in vain for a future that a thread was to fill, started before the "
                f"fork: it is not in child {os.getpid()}, so under prefork it never comes",
                self._about(self._ghosts[0]),
                "hand the work to an executor of the child's own: on first use, or in a receiver of "
                "worker_process_init",
            )
        elif ghost is not None and _names(ghost.thread) & _BRINGS:
            self._report(
                condition,
                f"the task waited {timeout:g} s in vain for what a thread was to bring that was started before the "
                f"fork: it is not in child {os.getpid()}, so under prefork it never comes",
                self._about(ghost),
                _REMEDY,
            )

    def _is_of_future(self, condition: Any) -> bool:
        """Whether what is waited for is a future that was made before the fork and not done by then."""
        # All objects are walked for it, and a task may wait in vain again and again.
        return bool(self._futures) and any(
            getattr(each, "_condition", None) is condition for each in _pending_futures(self._futures)
        )

    def _ghost_of(self, condition: Any) -> Ghost | None:
        for thing, ghost in self._touched.values():
            if thing is condition or any(value is condition for value in attributes_of(thing).values()):
                return ghost
        return None

    def _put(self, _: None, items: Any, *__: Any, **___: Any) -> None:
        run = self.watch.current()
        if run is None or id(items) not in self._touched:
            return
        frame = self.watch.frames.user_frame(sys._getframe())
        if frame is not None:
            run.marks.setdefault("missing-thread", []).append((items, self._frame_lines(frame)))

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """What the task has put into a queue of a thread's is still there, and nobody is there to take it."""
        self._ending = run
        for items, lines in run.marks.pop("missing-thread", ()):
            ghost = self._touched[id(items)][1]
            if self._alone() and items.qsize() and _names(ghost.thread) & {"get", "get_nowait"}:
                self._report(
                    items,
                    f"the task puts into a queue that a thread was to empty which was started before the fork: it is "
                    f"not in child {os.getpid()}, so under prefork nothing is ever taken out ({items.qsize()} by now)",
                    self._about(ghost),
                    _REMEDY,
                    lines,
                )
        if not self._told:
            self._told = True
            self._warn()

    def _warn(self) -> None:
        """Say that threads of the user's do not run here, whether or not a task needs them."""
        running = [target_of(thread) for thread in threading.enumerate()]
        for ghost in self._ghosts:
            known = ghost.thread in self._missed
            if ghost.users and ghost.why is not None and not known and target_of(ghost.thread) not in running:
                self.watch.report(
                    "unforked-thread",
                    None,
                    f"a thread that was started before the fork ({ghost.thread.name}) runs in the parent only: prefork "
                    "runs the tasks in children, where what it does is not done, and what it changes stays as it was",
                    [ghost.place, f"when the parent forked it was here: {ghost.at}; it {ghost.why}"],
                    _REMEDY,
                    key=ghost.place,
                )

    # -- reporting

    def _about(self, ghost: Ghost) -> list[str]:
        self._missed.add(ghost.thread)
        return [
            f"the thread {ghost.thread.name!r} was started here: {ghost.place}",
            f"when the parent {family.main_pid()} forked it was here: {ghost.at}",
        ]

    def _frame_lines(self, frame: FrameType) -> list[str]:
        frames = self.watch.frames
        return [frames.place(frame), *(f"  called from {line}" for line in frames.stack(frame)[1:])]

    def _report(
        self, thing: Any, message: str, evidence: list[str], remedy: str, lines: list[str] | None = None
    ) -> None:
        run = self.watch.current()
        frame = self.watch.frames.user_frame(sys._getframe())
        if lines is None and frame is not None:
            lines = self._frame_lines(frame)
        # The run that ends is no longer the current one; its task is known all the same.
        if lines is None or (lines[0], id(thing)) in self._reported:
            return
        self._reported.add((lines[0], id(thing)))
        self.watch.report("missing-thread", run or self._ending, message, [*lines, *evidence], remedy)


def _file_of_thread(frame: FrameType) -> str:
    """Return the file of the function that a thread began with."""
    while frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename


def _system_threads(otherwise: int) -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return otherwise


def _loops_of(frame: FrameType | None) -> Iterator[Any]:
    """Yield the loops of asyncio that a thread runs."""
    while frame is not None:
        loop = frame.f_locals.get("self") if frame.f_code.co_name == "run_forever" else None
        if hasattr(loop, "call_soon_threadsafe"):
            yield loop
        frame = frame.f_back


def _pending_futures(known: set[int] | None = None) -> list[Any]:
    """Return the futures of executors that are not done.

    :param known: their addresses, if only these are of interest.
    """
    if "concurrent.futures" not in sys.modules:
        return []
    from concurrent.futures import Future

    return [
        each
        for each in gc.get_objects()
        if type(each) is Future and (known is None or id(each) in known) and not each.done()
    ]


def _count(ghosts: list[Ghost]) -> str:
    return "one" if len(ghosts) == 1 else str(len(ghosts))


def _starts_again(thread: threading.Thread) -> str | None:
    """Return why a timer is as good as a thread that never ends: what it calls starts the next one."""
    function = target_of(thread)
    if not isinstance(thread, threading.Timer) or function is None:
        return None
    again = {"Timer", getattr(function, "__name__", "")} <= _names(thread)
    return "starts the next one each time" if again else None


def _is_others(thread: threading.Thread) -> bool:
    module = getattr(target_of(thread), "__module__", None) or type(thread).__module__
    return str(module).partition(".")[0] in _OTHERS


def _touched(thread: threading.Thread) -> list[Any]:
    """Return the queues, events and conditions that a thread works with, as far as its target shows them."""
    wanted = (queue.Queue, queue.SimpleQueue, threading.Event, threading.Condition)
    target = getattr(thread, "_target", None)
    roots: list[Any] = [
        *(getattr(thread, "_args", None) or ()),
        *(getattr(thread, "_kwargs", None) or {}).values(),
        getattr(target, "__self__", None),
    ]
    if type(thread) is not threading.Thread:
        own = set(attributes_of(threading.Thread()))
        roots += [value for name, value in attributes_of(thread).items() if name not in own]
    for code, scope in _codes(thread):
        roots += [scope[name] for name in code.co_names if name in scope]
    function = target_of(thread)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            roots.append(cell.cell_contents)
        except ValueError:
            continue
    found = [root for root in roots if isinstance(root, wanted)]
    for root in roots:
        if not isinstance(root, (*wanted, type)):
            found += [value for value in attributes_of(root).values() if isinstance(value, wanted)]
    return found


def _codes(thread: threading.Thread) -> Iterator[tuple[CodeType, dict[str, Any]]]:
    """Yield the code of what a thread runs, and of what that calls by name: functions of its module, methods."""
    target = getattr(thread, "_target", None)
    owner = type(getattr(target, "__self__", None) or thread)
    todo: list[Any] = [target_of(thread)]
    seen: set[CodeType] = set()
    while todo and len(seen) < 20:
        function = todo.pop()
        code = getattr(function, "__code__", None)
        if code is None or code in seen:
            continue
        seen.add(code)
        scope = getattr(function, "__globals__", {})
        yield code, scope
        for name in code.co_names:
            method = getattr(owner, name, None) if owner is not threading.Thread else None
            todo += [one for one in (scope.get(name), method) if hasattr(one, "__code__")]


def _names(thread: threading.Thread) -> set[str]:
    """Return the names that the code of a thread mentions."""
    return {name for code, _ in _codes(thread) for name in code.co_names}
