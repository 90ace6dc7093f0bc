"""Tasks of one process that hold a lock each and wait for that of the other.

What a task holds and waits for is read from where it stands in the source: within the body of a ``with`` statement, or
behind ``acquire()`` and before ``release()``; the lock of a handler of ``logging``, from where it stands there. No lock
is watched, so tasks pay nothing for it.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import re
import time
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.places import (
    UNKNOWN,
    Scope,
    Sources,
    item_of,
    method_of,
    resolve,
    resolve_callable,
)
from pytest_celerypool.agent.detectors.code.standing import Reader, frames_of
from pytest_celerypool.agent.detectors.fork.locks import is_held
from pytest_celerypool.agent.detectors.sharing.handler_locks import HandlerLock, handler_locks
from pytest_celerypool.agent.detectors.sharing.lookout import Lookout
from pytest_celerypool.agent.detectors.state.changes import name_of
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.watch import Watch

_KIND = "deadlock"

#: Seconds between two looks; who has not moved meanwhile waits. With very many tasks it is more: so many times what a
#: look takes.
_POLL_S, _POLLS = 0.15, 50

#: For how many seconds tasks are looked at that seem to wait for one another, and the seconds between two looks.
_CONFIRM_S, _LOOK_S = 0.2, 0.005

#: What a project has that uses locks.
_USES_LOCKS = re.compile(r"Lock\b|\.acquire\(|Semaphore")

#: What enters the context of one item of a ``with`` statement; the second from Python 3.14 on.
_ENTERS = ("BEFORE_WITH", "LOAD_SPECIAL")

#: Calls that are followed from ``with lock_of(name):`` to the lock.
_DEEPEST = 3


class Held(NamedTuple):
    """A lock that a task has, or waits for.

    :ivar text: how the source names it.
    :ivar place: the line that takes it.
    """

    lock: Any
    text: str
    place: str


class Waiting(NamedTuple):
    """A task that waits for a lock.

    :ivar at: tells the point where it stands from others.
    """

    run: Run
    at: tuple[int, int]
    wants: Held
    has: tuple[Held, ...]
    stack: tuple[str, ...]


class Deadlocks(Detector):
    """Looks now and then at tasks that overlap, if the project has locks."""

    kinds = (Kind(_KIND, "fail", "tasks wait for locks that the other holds"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._reader = Reader(watch.frames)
        self._locks = LocksOfFrames(self._reader)
        self._lookout = Lookout(self, self._look_on, _USES_LOCKS)
        self._before: dict[int, tuple[int, int]] = {}
        self._told: set[frozenset[str]] = set()

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where tasks share a process at the same time."""
        return watch.pool.overlaps

    def started(self, run: Run) -> None:
        """A task begins: look from now on, if it is not the only one."""
        if not self._lookout.looking and len(self.watch.recorder.running) > 1:
            self._before = {}
            self._lookout.begin(_POLL_S)

    def _look_on(self) -> float | None:
        """Look as long as tasks overlap; returns the seconds until the next look."""
        began = time.monotonic()
        self._before = self._look(self._before)
        pause = max(_POLL_S, _POLLS * (time.monotonic() - began))
        return pause if len(self.watch.recorder.running) > 1 else None

    def _look(self, before: dict[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
        """Compare where tasks stand with where they stood at the last look; return where they do."""
        here = {}
        waiting = []
        for run, frame in frames_of(self.watch.recorder.running, self.watch.running()):
            at = here[id(run)] = id(frame), frame.f_lasti
            if before.get(id(run)) == at:
                found = self._locks.waiting(run, at, frame)
                if found is not None:
                    waiting.append(found)
        for circle in circles(waiting):
            self._report(circle)
        return here

    def _report(self, circle: list[Waiting]) -> None:
        key = frozenset(each.wants.place for each in circle)
        if key in self._told or not self._lasts(circle):
            return
        self._told.add(key)
        first, others = circle[0], [each.run for each in circle[1:]]
        self.watch.report(
            _KIND,
            first.run,
            f"it waits for {first.wants.text}, which {name_of(others[0])} has, and that waits for what this one has: "
            f"{len(circle)} slots are lost until one of them gives up, if it ever does; under {self.watch.pool.name} "
            "the tasks of a process share its locks",
            [line for each in circle for line in _evidence(each)],
            "take the locks in one order everywhere (sorted by name, say), or one lock for both",
            key=first.wants.place,
            others=others,
        )

    def _lasts(self, circle: list[Waiting]) -> bool:
        """Whether none of them goes on for a while: one that waits with a short time limit comes by here again."""
        runs = [each.run for each in circle]
        end = time.monotonic() + _CONFIRM_S
        while time.monotonic() < end:
            originals.sleep(_LOOK_S)
            here = {id(run): (id(frame), frame.f_lasti) for run, frame in frames_of(self.watch.recorder.running, runs)}
            if any(here.get(id(each.run)) != each.at for each in circle):
                return False
        return True


def _evidence(waiting: Waiting) -> list[str]:
    who = name_of(waiting.run)
    return [
        f"{waiting.wants.place}",
        *(f"  called from {line}" for line in waiting.stack),
        f"  {who} waits here for {waiting.wants.text}",
        *(f"  and has {held.text} since {held.place}" for held in waiting.has),
    ]


def circles(waiting: list[Waiting]) -> list[list[Waiting]]:
    """Return the tasks that wait for one another, each circle once.

    :param waiting: tasks that wait for a lock. One that several of them have (a semaphore) tells nothing.
    """
    owners: dict[int, list[Waiting]] = {}
    for each in waiting:
        for held in each.has:
            owners.setdefault(id(held.lock), []).append(each)
    found: dict[frozenset[int], list[Waiting]] = {}
    for start in waiting:
        path: list[Waiting] = []
        following: list[Waiting] = [start]
        while len(following) == 1 and not any(each is following[0] for each in path):
            path += following
            following = owners.get(id(path[-1].wants.lock), [])
        if len(path) > 1 and len(following) == 1 and following[0] is start:
            found.setdefault(frozenset(map(id, path)), path)
    return list(found.values())


class LocksOfFrames:
    """Reads from the source which locks a task has taken, and which it waits for."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._sources = reader.sources
        #: What takes a lock in a line of a function, ``None`` of most.
        self._taking: dict[tuple[types.CodeType, int], ast.With | ast.expr | None] = {}

    def waiting(self, run: Run, at: tuple[int, int], frame: types.FrameType) -> Waiting | None:
        """Return what a task waits for, ``None`` if that is no lock that is known.

        :param frame: the innermost frame of its slot.
        """
        frames = self._reader.user_frames(frame)
        if not frames:
            return None
        of_handlers = list(handler_locks(frame))
        wanted = self._wanted(frames[-1]) or next((self._of(each) for each in of_handlers[:1] if not each.held), None)
        if wanted is None:
            return None
        held = [
            *(held for each in frames for held in self._held(each)),
            *(self._of(each) for each in of_handlers if each.held),
        ]
        has = tuple(each for each in held if each.lock is not wanted.lock)
        stack = tuple(self._reader.frames.place(each) for each in reversed(frames[:-1]))
        return Waiting(run, at, wanted, has, stack)

    def _of(self, found: HandlerLock) -> Held:
        return Held(found.lock, found.text, self._reader.frames.place(found.logs))

    def _wanted(self, frame: types.FrameType) -> Held | None:
        at = frame.f_code, frame.f_lineno
        if at not in self._taking:
            self._taking[at] = _taking(self._sources.node(frame.f_code), frame.f_lineno)
        node = self._taking[at]
        if isinstance(node, ast.With):
            item = _item_at(frame, node)
            node = None if item is None else item.context_expr
        return None if node is None else self._lock(node, frame)

    def _held(self, frame: types.FrameType) -> Iterator[Held]:
        """Yield the locks that a function has taken before the line at which it stands."""
        function = self._sources.node(frame.f_code)
        nodes = list(ast.walk(function)) if function is not None else []
        for node in (*_entered(nodes, frame), *_acquired(nodes, frame.f_lineno)):
            held = self._lock(node, frame)
            if held is not None:
                yield held
        code, entering = frame.f_code, [each for each in nodes if isinstance(each, ast.Call) and _is_entering(each)]
        for manager in _on_stacks(frame) if entering else ():
            if is_lock(manager):
                place = self._reader.frames.place_of(code.co_filename, entering[0].lineno, code.co_name)
                yield Held(manager, f"a lock on an ExitStack ({type(manager).__name__})", place)
            elif isinstance(manager, contextlib._GeneratorContextManager):
                inner = getattr(manager.gen, "gi_frame", None)
                yield from () if inner is None else self._held(inner)

    def _lock(self, node: ast.expr, frame: types.FrameType) -> Held | None:
        scope = Scope(frame.f_locals, frame.f_globals)
        lock = lock_of(node, scope, self._sources)
        if not is_lock(lock):
            lock = self._taken_by(lock) if lock is not UNKNOWN else UNKNOWN
        if not is_lock(lock):
            lock = self._taken_in(node, scope)
        if not is_lock(lock):
            return None
        code = frame.f_code
        return Held(lock, ast.unparse(node), self._reader.frames.place_of(code.co_filename, node.lineno, code.co_name))

    def _taken_by(self, manager: Any) -> Any:
        """Return the lock that the ``__enter__`` of a manager of the user's acquires."""
        method = method_of(manager, "__enter__")
        definition = self._sources.node(method.__code__) if isinstance(method, types.FunctionType) else None
        if definition is None or not self._reader.frames.is_user(method.__code__.co_filename):
            return UNKNOWN
        scope = Scope(dict(zip(method.__code__.co_varnames[:1], (manager,), strict=False)), method.__globals__)
        owners = (_called_on(each, "acquire") for each in ast.walk(definition) if isinstance(each, ast.Call))
        return next((lock_of(owner, scope, self._sources) for owner in owners if owner is not None), UNKNOWN)

    def _taken_in(self, node: ast.expr, scope: Scope) -> Any:
        """Return the lock that a :func:`contextlib.contextmanager` of the user's takes before it yields."""
        made = resolve_callable(node.func, scope) if isinstance(node, ast.Call) else None
        generator = vars(made).get("__wrapped__") if isinstance(made, types.FunctionType) else None
        if not isinstance(node, ast.Call) or not isinstance(generator, types.FunctionType):
            return UNKNOWN
        definition = self._sources.node(generator.__code__) or ast.Pass()
        inner = Scope(_given(node, generator, scope), generator.__globals__)
        found = (lock_of(each, inner, self._sources) for each in _around_yield(definition))
        return next((lock for lock in found if is_lock(lock)), UNKNOWN)


def is_lock(value: Any) -> bool:
    """Whether something is a lock that one task at a time has, and that is taken now; a condition gives it back."""
    cls: Any = type(value)
    if value is UNKNOWN or "Condition" in cls.__name__ or not (hasattr(cls, "acquire") and hasattr(cls, "release")):
        return False
    if cls.__module__ not in ("_thread", "threading") and not cls.__module__.startswith(("gevent.", "eventlet.")):
        return False
    locked = getattr(value, "locked", None)
    return bool(locked()) if locked is not None else is_held(value)


def lock_of(node: ast.expr, scope: Scope, sources: Sources, depth: int = _DEEPEST) -> Any:
    """Return what an expression stands for; also of a call of the user's function that returns it from somewhere."""
    value = resolve(node, scope)
    if value is not UNKNOWN or not isinstance(node, ast.Call) or not depth:
        return value
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "setdefault") and node.args:
        return item_of(resolve(node.func.value, scope), resolve(node.args[0], scope))
    function = resolve_callable(node.func, scope)
    definition = sources.node(function.__code__) if isinstance(function, types.FunctionType) else None
    returned = definition.body[-1] if definition is not None else None
    if not isinstance(returned, ast.Return) or returned.value is None:
        return UNKNOWN
    return lock_of(returned.value, Scope(_given(node, function, scope), function.__globals__), sources, depth - 1)


def _given(call: ast.Call, function: types.FunctionType, scope: Scope) -> dict[str, Any]:
    """Return what a function's arguments stand for in a call."""
    given = [resolve(each, scope) for each in call.args]
    if isinstance(call.func, ast.Attribute) and not isinstance(resolve(call.func.value, scope), types.ModuleType):
        given.insert(0, resolve(call.func.value, scope))
    return dict(zip(function.__code__.co_varnames, given, strict=False))


def _around_yield(definition: ast.AST) -> Iterator[ast.expr]:
    """Yield what a generator enters by ``with``, or acquires, before it yields."""
    nodes = list(ast.walk(definition))
    yields = min((each.lineno for each in nodes if isinstance(each, ast.Yield)), default=0)
    for node in nodes:
        if isinstance(node, ast.With) and node.lineno <= yields <= (node.end_lineno or 0):
            yield from (item.context_expr for item in node.items)
    yield from _acquired(nodes, yields)


def _taking(function: ast.AST | None, line: int) -> ast.With | ast.expr | None:
    """Return the ``with`` statement in whose head a line is, or what the line calls ``acquire()`` of."""
    for node in () if function is None else ast.walk(function):
        if isinstance(node, ast.With) and node.lineno <= line < node.body[0].lineno:
            return node
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or 0):
            owner = node.args[0] if _is_entering(node) and node.args else _called_on(node, "acquire")
            if owner is not None and not _is_asking(node):
                return owner
    return None


def _entered(nodes: list[ast.AST], frame: types.FrameType) -> Iterator[ast.expr]:
    """Yield what the ``with`` statements around a frame's line have entered."""
    for node in nodes:
        if isinstance(node, ast.With) and node.lineno <= frame.f_lineno <= (node.end_lineno or 0):
            entering = _item_at(frame, node) if frame.f_lineno < node.body[0].lineno else None
            for item in node.items:
                if item is entering:
                    break
                yield item.context_expr


def _acquired(nodes: list[ast.AST], line: int) -> Iterable[ast.expr]:
    """Return what has been acquired before a line, and not released since."""
    taken: dict[str, ast.expr] = {}
    calls = [node for node in nodes if isinstance(node, ast.Call) and node.lineno < line]
    for call in sorted(calls, key=lambda each: (each.lineno, each.col_offset)):
        owner, released = _called_on(call, "acquire"), _called_on(call, "release")
        if owner is not None:
            taken[ast.unparse(owner)] = owner
        elif released is not None:
            taken.pop(ast.unparse(released), None)
    return taken.values()


def _is_entering(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "enter_context"


def _on_stacks(frame: types.FrameType) -> Iterator[Any]:
    """Yield the managers, locks among them, that a function has entered on a ``contextlib.ExitStack``."""
    for value in frame.f_locals.values():
        if issubclass(type(value), contextlib.ExitStack):
            yield from (getattr(leave, "__self__", None) for _, leave in list(value._exit_callbacks))


def _is_asking(call: ast.Call) -> bool:
    """Whether an ``acquire`` does not wait."""
    given = [*call.args[:1], *(each.value for each in call.keywords if each.arg in ("blocking", "block"))]
    return any(isinstance(each, ast.Constant) and not each.value for each in given)


def _called_on(call: ast.Call, method: str) -> ast.expr | None:
    return call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr == method else None


def _item_at(frame: types.FrameType, node: ast.With) -> ast.withitem | None:
    """Return the item of a ``with`` statement that a frame is entering: that of the last such instruction."""
    entered = [
        each.offset
        for each in dis.get_instructions(frame.f_code)
        if each.opname in _ENTERS
        and each.positions is not None
        and each.positions.lineno is not None
        and node.lineno <= each.positions.lineno < node.body[0].lineno
        and (each.opname != "LOAD_SPECIAL" or "enter" in each.argrepr)
    ]
    number = sum(offset <= frame.f_lasti for offset in entered) - 1
    return node.items[number] if 0 <= number < len(node.items) else None
