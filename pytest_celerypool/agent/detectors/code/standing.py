"""Where a running task stands: what it has written and checked, and what it must read and write from there on."""

from __future__ import annotations

import ast
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from pytest_celerypool.agent.detectors.code.flow import Flow, Label, Step, reads_of, scope_of
from pytest_celerypool.agent.detectors.code.places import ALL, Place, Scope, Sources, hashable
from pytest_celerypool.agent.detectors.code.steps import FILLING, given_names, manager_around, method_of_user
from pytest_celerypool.agent.frames import TRACER, Frames
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.receivers import receivers_of

#: The identity of a place.
Identity = tuple[int, bool, Any]

#: Frames of the user's that are looked at in one slot.
_MOST_FRAMES = 8


#: Methods of a task that Celery calls around it.
BEFORE, AFTER = ("before_start",), ("on_success", "after_return")


def function_of(task: Any, frames: Frames) -> types.FunctionType | None:
    """Return the function of a task, ``None`` if it is not in a file of the user's.

    Of one that a library has decorated it is the one inside, as far as ``functools.wraps`` has kept it.
    """
    function: Any = getattr(task.run, "__func__", task.run)
    while isinstance(function, types.FunctionType):
        if frames.is_user(function.__code__.co_filename):
            return function
        function = getattr(function, "__wrapped__", None)
    return None


def manager_of(task: Any) -> Any:
    """Return the object of a ``contextlib.ContextDecorator`` that a task is decorated with, ``None`` without one."""
    run = getattr(task, "run", None)
    return manager_around(getattr(run, "__func__", run))


class Reader:
    """Makes the steps of the user's functions.

    :param frames: tells the user's files.
    """

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.sources = Sources()

    def flow_of(self, function: types.FunctionType, scope: Scope) -> Flow | None:
        """Return the steps of a function that is not entered yet."""
        flow = Flow(self.sources, self.frames.is_user)
        return flow if flow.run(function.__code__, scope, live=False) else None

    def flow_in(self, frame: types.FrameType) -> Flow | None:
        """Return the steps of the function of a frame, known by the values of its names."""
        flow = Flow(self.sources, self.frames.is_user)
        known = flow.run(frame.f_code, Scope(frame.f_locals, frame.f_globals), live=True)
        return flow if known else None

    def steps_of_hooks(self, task: Any, hooks: tuple[str, ...], given: tuple[Any, ...] = ()) -> list[Step]:
        """Return the steps of what Celery calls before or after a task, as far as the user has written it.

        Before it these are also the receivers of ``task_prerun``.

        :param given: the task's id, its arguments and its keyword arguments, if they are known: before it the methods
            of the task get these.
        """
        found: list[Step] = []
        for function in self._prerun(task) if hooks is BEFORE else ():
            flow = self.flow_of(function, scope_of(function, {}))
            found += flow.steps if flow is not None else ()
        manager = manager_of(task)
        owned = [(task, name) for name in hooks]
        if manager is not None:
            owned.append((manager, "__enter__" if hooks is BEFORE else "__exit__"))
        for owner, name in owned:
            method = method_of_user(owner, name, self.frames.is_user)
            if isinstance(method, types.FunctionType):
                values = (owner, *(given if hooks is BEFORE and owner is task else ()))
                names = dict(zip(method.__code__.co_varnames[: method.__code__.co_argcount], values, strict=False))
                flow = self.flow_of(method, scope_of(method, names))
                found += flow.steps if flow is not None else ()
        return found

    def steps_of_prerun(self, task: Any) -> list[Step]:
        """Return what receivers of ``task_prerun`` are certain to write before a task."""
        flows = [self.flow_of(function, scope_of(function, {})) for function in self._prerun(task)]
        steps = [step for flow in flows if flow is not None for step in flow.steps]
        written = [step for step in steps if step.kind == "write" and not step.path]
        return [step for step in written if step.place is not None and step.place.key is not ALL]

    def _prerun(self, task: Any) -> list[types.FunctionType]:
        from celery.signals import task_prerun

        return receivers_of(task_prerun, self.frames, task)

    def is_of_its_own(self, step: Step) -> bool:
        """Whether what a call adds somewhere is made of what its function was given, not the same for every task."""
        function = self.sources.node(step.code)
        if function is None or not isinstance(step.node, ast.Call):
            return False
        given = given_names(function)
        arguments = [*step.node.args, *(keyword.value for keyword in step.node.keywords)]
        return any(isinstance(each, ast.Name) and each.id in given for part in arguments for each in ast.walk(part))

    def place(self, step: Step) -> str:
        """Return the line of a step as findings show it."""
        return self.frames.place_of(step.code.co_filename, step.line, step.code.co_name)

    def user_frames(self, frame: types.FrameType | None) -> list[types.FrameType]:
        """Return the user's frames of a slot, the outermost first."""
        found: list[types.FrameType] = []
        while frame is not None and not frame.f_code.co_filename.endswith(TRACER):
            if self.frames.is_user(frame.f_code.co_filename):
                found.append(frame)
            frame = frame.f_back
        return found[:_MOST_FRAMES][::-1]


#: Before Python 3.12 a comprehension is a function of its own: https://peps.python.org/pep-0709/.
_COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>"}


def _without_comprehensions(frames: list[types.FrameType]) -> list[tuple[types.FrameType, types.FrameType]]:
    """Return the frames of functions, each with the one that tells where it is: that of its comprehension, if any."""
    found: list[tuple[types.FrameType, types.FrameType]] = []
    for frame in frames:
        if found and frame.f_code.co_name in _COMPREHENSIONS:
            found[-1] = found[-1][0], frame
        else:
            found.append((frame, frame))
    return found


def split(
    flow: Flow, code: types.CodeType, lasti: int, function: types.CodeType | None = None
) -> tuple[int, int] | None:
    """Find the step that a function is at.

    :param lasti: the offset of the instruction.
    :param function: the code of the function, if `code` is that of a comprehension in it.
    :returns: the first step that is not done yet, and the first that follows what is being done.
    """
    position = next(itertools.islice(code.co_positions(), lasti // 2, None), None)
    if position is None:
        return None
    line, end_line, column, end_column = position
    best: int | None = None
    for number, step in enumerate(flow.steps):
        node: Any = step.node
        if step.kind != "enter" or step.code is not (function or code):
            continue
        if (getattr(node, "end_lineno", None), getattr(node, "end_col_offset", None)) != (end_line, end_column):
            continue
        # A whole ``with`` statement, which waits for its lock, ends where the last call in it does.
        if (node.lineno, node.col_offset) > (line, column):
            continue
        exact = (node.lineno, node.col_offset) == (line, column)
        if exact or (best is None and not isinstance(node, ast.For)):
            best = number
    if best is None:
        return None
    node = flow.steps[best].node
    for number in range(best + 1, len(flow.steps)):
        if flow.steps[number].kind == "leave" and flow.steps[number].node is node:
            return best, number + 1
    return None


class Standing:
    """What is known of one running task at one moment.

    :param given: the task's id, arguments and keyword arguments, if they are known.

    :ivar frames: the user's frames, the outermost first.
    :ivar wrote: the last write of a place, where it is certain that the task came by it.
    :ivar awaits: the next read of a place that it has written; nothing can keep it from that but an exception.
    :ivar updates: the read and the write of a place that is to be written from what was read.
    :ivar builds: the test of a place and the write that is to follow it.
    :ivar drains: the use of a container as a whole, and the call that is to empty it afterwards.
    :ivar copies: local values that are what a place held.
    """

    def __init__(self, run: Run, reader: Reader, frames: list[types.FrameType], given: tuple[Any, ...] = ()) -> None:
        self.run = run
        self._reader = reader
        self.frames = frames
        self.at = [(frame, frame.f_lasti) for frame in frames]
        self.wrote: dict[Identity, Step] = {}
        self.awaits: dict[Identity, Step] = {}
        self.updates: dict[Identity, tuple[Step, Step]] = {}
        self.builds: dict[Identity, tuple[Step, Step]] = {}
        self.drains: dict[Identity, tuple[Step, Step]] = {}
        self.copies: dict[Identity, Any] = {}
        self._before: list[tuple[Step, bool]] = []
        self._ahead: list[tuple[Step, bool]] = []
        self._tests: dict[Identity, Step] = {}
        function = function_of(run.task, reader.frames) if hasattr(run.task, "run") else None
        if frames and function is not None and frames[0].f_code is function.__code__:
            self._before += [(step, not step.path) for step in reader.steps_of_hooks(run.task, BEFORE, given)]
            self._ahead += [(step, not step.path) for step in reader.steps_of_hooks(run.task, AFTER)]
        self.known = bool(frames) and all(self._frame(frame, at) for frame, at in _without_comprehensions(frames))
        if self.known:
            self._conclude()

    @property
    def key(self) -> tuple[int, int]:
        """Tells the point where it stands from others."""
        frame, lasti = self.at[-1]
        return id(frame), lasti

    def still(self) -> bool:
        """Whether the task has not gone on since."""
        return all(frame.f_lasti == lasti for frame, lasti in self.at)

    def is_past(self, step: Step) -> bool:
        """Whether the task stands behind the line of a step; one that waits for the lock around it does not."""
        return all(frame.f_lineno >= step.line for frame in self.frames if frame.f_code is step.code)

    def waits_at(self) -> str:
        """Return the line at which the task stands."""
        return self._reader.frames.place(self.frames[-1])

    def stack(self) -> list[str]:
        """Return the lines of the user's frames, the innermost first."""
        return [self._reader.frames.place(frame) for frame in reversed(self.frames)]

    def _frame(self, frame: types.FrameType, at: types.FrameType) -> bool:
        flow = self._reader.flow_in(frame)
        where = split(flow, at.f_code, at.f_lasti, frame.f_code) if flow is not None else None
        if flow is None or where is None:
            return False
        path = flow.steps[where[0]].path
        self._before += [(step, step.within(path)) for step in flow.steps[: where[0]]]
        self._ahead = [(step, step.within(path)) for step in flow.steps[where[1] :]] + self._ahead
        self._remember_tests(flow, path, where[0])
        for name, read in flow.copies.items():
            if name in frame.f_locals and read.place is not None and read in flow.steps[: where[0]]:
                self.copies[read.place.identity] = frame.f_locals[name]
        return True

    def _remember_tests(self, flow: Flow, path: tuple[Label, ...], end: int) -> None:
        done = flow.steps[:end]
        for label in path:
            for read in flow.tests.get(label, ()):
                if read.place is not None and read in done:
                    self._tests[read.place.identity] = read

    def _conclude(self) -> None:
        last_read: dict[Identity, Step] = {}
        used: dict[int, Step] = {}
        for step, certain in self._before:
            place = step.place
            if certain and (whole := _used_whole(step)) is not None:
                used[whole] = step
            if place is None:
                continue
            if step.kind == "read" and certain:
                last_read[place.identity] = step
            elif step.kind == "write":
                last_read.pop(place.identity, None)
                if not _fills(step):  # what a task has emptied is its own while it fills it
                    self.wrote.pop(place.identity, None)
                self._tests.pop(noted_at(step), None)
                if certain and (step.how in ("=", "update") or (place.key is ALL and step.how in ("clear", "into"))):
                    self.wrote[place.identity] = step
        self._drop_refilled_alike()
        touched: set[Identity] = set()
        written: set[Identity] = set()
        for step, certain in self._ahead:
            if step.kind in ("read", "use") and certain:
                self._reading(step, written)
                used.pop(_used_whole(step) or 0, None)  # used once more, perhaps under the lock that the task waits for
            place = step.place
            if place is None or (_fills(step) and place.identity in self.wrote):
                continue
            if step.kind == "write":
                written.add(place.identity)
            if place.identity in touched:
                continue
            touched.add(place.identity)
            if step.kind == "write" and certain and step.how == "clear" and id(place.owner) in used:
                self.drains[place.identity] = used[id(place.owner)], step
            if step.kind == "write" and certain:
                read, test = last_read.get(place.identity), self._tests.get(noted_at(step))
                if read is not None and place.identity in step.sources:
                    self.updates[place.identity] = read, step
                elif test is not None and step.how != "del":
                    self.builds[noted_at(step)] = test, step

    def _drop_refilled_alike(self) -> None:
        """Forget containers that each task empties and fills with the same: whose items they are is all one."""
        steps = [step for step, _ in (*self._before, *self._ahead) if step.kind == "write"]
        for identity in [identity for identity, write in self.wrote.items() if write.how == "clear"]:
            fills = [step for step in steps if _fills(step) and step.place.identity == identity]  # type: ignore[union-attr]
            if fills and not any(self._reader.is_of_its_own(step) for step in fills):
                del self.wrote[identity]

    def _reading(self, step: Step, written: set[Identity]) -> None:
        for identity, write in self.wrote.items():
            place = write.place
            if place is None or identity in written or identity in self.awaits:
                continue
            if step.kind == "use":
                read = reads_of(step.value, place)
            else:
                other: Place = step.place  # type: ignore[assignment]
                read = other.identity == identity or (place.key is ALL and other.owner is place.owner)
            if read:
                self.awaits[identity] = step


def _used_whole(step: Step) -> int | None:
    """Return the identity of the container that a step uses as a whole, ``None`` if it does not."""
    if step.kind not in ("read", "use") or (step.place is not None and step.place.key is not ALL):
        return None
    return id(step.value if step.place is None else step.place.owner)


def _fills(step: Step) -> bool:
    """Whether a step adds to a container as a whole."""
    return step.kind == "write" and step.place is not None and step.place.key is ALL and step.how in FILLING


def noted_at(step: Step) -> Identity:
    """Return the identity of the place that a write fills; of what is appended to a list, that of the item in it."""
    place: Place = step.place  # type: ignore[assignment]
    appended = place.key is ALL and step.how in ("append", "appendleft") and hashable(step.value)
    return (id(place.owner), False, step.value) if appended else place.identity


def frames_of(running: dict[Any, Run], runs: list[Run]) -> Iterator[tuple[Run, types.FrameType]]:
    """Yield the innermost frames of running tasks that are in a thread, or in a greenlet that waits.

    :param running: as :attr:`Recorder.running`.
    """
    current = sys._current_frames()
    wanted = {id(run) for run in runs}
    for slot, run in list(running.items()):
        if id(run) in wanted:
            frame = current.get(slot) if isinstance(slot, int) else slot.gr_frame
            if frame is not None:
                yield run, frame


def name_of(step: Step) -> str:
    """Return the text of the place that a step concerns, as the code writes it."""
    node = step.node
    if isinstance(node, ast.AugAssign):
        node = node.target
    if isinstance(node, ast.Delete):
        node = node.targets[0]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        node = node.value
    return ast.unparse(node)


#: Starts a native thread, whatever has been patched.
Starter = Callable[[Callable[..., None], tuple[Any, ...]], int]


def native_starter() -> Starter:
    """Return the function that starts a thread of the system even where gevent or eventlet has replaced it."""
    if "gevent.monkey" in sys.modules:
        from gevent.monkey import get_original

        return get_original("_thread", "start_new_thread")  # type: ignore[no-any-return]
    if "eventlet.patcher" in sys.modules:
        from eventlet.patcher import original

        return original("_thread").start_new_thread  # type: ignore[no-any-return]
    import _thread

    return _thread.start_new_thread
