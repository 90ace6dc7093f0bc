"""Signals of child processes that a project relies on, under pools that have no children and never send them."""

from __future__ import annotations

import ast
import datetime
import decimal
import functools
import inspect
import types
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.calls import functions_of
from pytest_celerypool.agent.detectors.code.standing import function_of
from pytest_celerypool.agent.detectors.holders import user_modules, walk
from pytest_celerypool.agent.detectors.state.sources import find, name_of
from pytest_celerypool.agent.frames import message_of
from pytest_celerypool.agent.reach import FILLS, Name, Reach, Reaches
from pytest_celerypool.agent.receivers import owners_of, receivers_of
from pytest_celerypool.agent.syntax import definition_of, tree_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

IGNORED, UNSENT = "init-signal-ignored", "init-signal-unsent"

_INIT, _SHUTDOWN = "worker_process_init", "worker_process_shutdown"

#: A method of Celery's loaders that does what a receiver of the first does; it is called by children of prefork alone.
_LOADER = "on_worker_process_init"

#: What a receiver calls that only makes good what a fork did: without one it is not missed.
_AFTER_FORK = {
    *("dispose", "close", "close_all", "close_all_connections", "close_old_connections", "seed", "reset", "disconnect"),
    *("clear", "release", "reconnect", "after_fork", "reinit", "shutdown", "stop", "terminate", "cancel", "getpid"),
    *("debug", "info", "warning", "error", "print", "getLogger", "exception"),
}

#: Other signals of Celery whose receivers may do the same: a project that connects both is right under every pool.
_FALLBACKS = (
    *("worker_init", "worker_ready", "worker_before_create_process", "celeryd_init", "celeryd_after_setup"),
    *("worker_shutting_down", "worker_shutdown", "task_prerun", "task_postrun", "eventlet_pool_started"),
    *("eventlet_pool_apply", "eventlet_pool_preshutdown", "eventlet_pool_postshutdown"),
)

_PLAIN = (str, bytes, int, float, bool, type(None), decimal.Decimal, datetime.date, datetime.timedelta, uuid.UUID)

_CONTAINERS = (list, dict, set, tuple)


class InitSignals(Detector):
    """Asks after a task whether a receiver that was never called has been missed.

    ``worker_process_init`` is sent by prefork and solo, ``worker_process_shutdown`` by prefork alone.
    """

    kinds = (
        Kind(IGNORED, "fail", "tasks rely on a signal of child processes that the pool never sends"),
        Kind(UNSENT, "warn", "a signal of child processes has a receiver, and the pool never sends it"),
    )

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Return whether the pool has no child processes; of a custom one that is not known."""
        return not watch.pool.forks and ":" not in watch.pool.name

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._sent = False
        self._told: set[tuple[str, Any]] = set()
        self._exits: list[Any] = []
        self._receivers: tuple[tuple[str, Any], ...] = ()
        #: The objects of receivers that are methods.
        self._owners: dict[Any, list[Any]] = {}
        self._mentions: dict[str, frozenset[str]] = {}
        self._reaches = Reaches(self.watch.frames.is_user)
        self.rest("ended")

    def install(self) -> None:
        """See what is to be called at the exit of the process."""
        import atexit

        self.after(atexit, "register", lambda _result, function, *_args, **_kwargs: self._exits.append(function))

    def forked(self) -> None:
        """``worker_process_init`` was sent."""
        self._sent = True

    def started(self, run: Run) -> None:
        """Find the receivers, once the application has connected all of them."""
        self.pass_over(run.task.name, "started")
        self._receivers = tuple(self._missed())
        if self._receivers:
            self.listen("ended")

    def _missed(self) -> Iterable[tuple[str, Any]]:
        from celery import signals

        method = getattr(type(self.watch.app.loader), _LOADER, None)
        if isinstance(method, types.FunctionType) and self.watch.frames.is_user(method.__code__.co_filename):
            yield _LOADER, method
        names = (_SHUTDOWN,) if self._sent else (_INIT, _SHUTDOWN)
        for name in names:
            signal = getattr(signals, name)
            for function in dict.fromkeys(receivers_of(signal, self.watch.frames)):
                if not self._has_fallback(function, name):
                    self._owners[function] = owners_of(signal, function)
                    yield name, function

    def _has_fallback(self, function: Any, name: str) -> bool:
        """Whether another signal, or the exit of the process, does what this receiver is to do."""
        from celery import signals

        others = [
            each
            for other in _FALLBACKS
            if (signal := getattr(signals, other, None))
            for each in receivers_of(signal, self.watch.frames)
        ]
        if name == _SHUTDOWN:
            others += [each for each in self._exits if isinstance(each, types.FunctionType)]
            others += registered_at_exit(function)
        own = self._reaches.of(function)
        touched = own.sets | set(own.changes) | (own.reads if name == _SHUTDOWN else set())
        for other in others:
            theirs = self._reaches.of(other)
            if other is function or function in theirs.functions or (own.functions & theirs.functions):
                return True
            filled = {each for each, what in theirs.changes.items() if what & FILLS or any("=" in one for one in what)}
            if touched & (theirs.sets | (set(theirs.changes) if name == _SHUTDOWN else filled)):
                return True
        return False

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Ask whether this task missed what a receiver is to do."""
        for name, function in self._receivers:
            if (IGNORED, function) in self._told:
                continue
            missed = self._missed_shutdown if name == _SHUTDOWN else self._missed_init
            kind, why = missed(run, function, exc)
            if kind and (kind, function) not in self._told:
                self._told.add((kind, function))
                self._report(run, name, function, kind, why)

    def _missed_init(self, run: Run, function: Any, exc: BaseException | None) -> tuple[str, str]:
        receiver, task = self._reaches.of(function), self._reaches.of(run.task.run)
        if function in task.functions:
            return "", ""  # the task calls it itself
        for owner, attribute in self._unset_of(function):
            if attribute in self._mentioned(run.task):
                what = f"{type(owner).__name__}.{attribute} is {_told(_attribute(owner, attribute))}"
                return IGNORED, f"{what}, and what {run.task.name} runs reads it"
        names = sorted(name for name in receiver.sets | set(receiver.changes) if self._is_data(receiver, name))
        for name in set(receiver.changes) & task.reads:
            for what in receiver.changes[name] - task.changes.get(name, set()):
                attribute = what[1:-1]
                if what == f".{attribute}=" and _unset(_attribute(receiver.value(name), attribute)):
                    return IGNORED, f"{name.name}.{attribute} is not set, and {run.task.name} reads {name.name}"
        for name in names:
            value = receiver.value(name, _MISSING)
            same = _names_of(value, name, task)
            made_when_needed = any(each in task.sets or task.changes.get(each, set()) & FILLS for each in same)
            if same & task.reads and _unset(value) and not made_when_needed:
                return IGNORED, f"{name.name} is {_told(value)}, and {run.task.name} reads it"
        if isinstance(exc, TypeError | AttributeError) and self._is_blamed(run, function, message_of(exc)):
            return IGNORED, f"{run.task.name} fails with {type(exc).__name__}: {exc}"
        assigns = any(what.endswith("=") for changes in receiver.changes.values() for what in changes)
        if names or assigns or receiver.calls <= _AFTER_FORK:
            return "", ""
        return UNSENT, f"{', '.join(sorted(receiver.calls - _AFTER_FORK)[:3])}() is not called"

    def _unset_of(self, function: Any) -> list[tuple[Any, str]]:
        """Return what a method that is a receiver would have set on its object, and is not set: object and name."""
        return [
            (owner, each)
            for owner in self._owners.get(function, ())
            for each in sorted(_set_on_itself(function))
            if _unset(_attribute(owner, each))
        ]

    def _is_blamed(self, run: Run, function: Any, text: str) -> bool:
        """Whether what a task failed with says that what a receiver works on is not made yet.

        It names the class of an object that belongs to the receiver; or it says that something is nothing, and the
        task uses the name under which an object of the receiver is kept that has nothing.
        """
        held = [*self._owners.get(function, ()), *inspect.getclosurevars(function).nonlocals.values()]
        classes = {type(each) for each in held} - {type, types.FunctionType}
        if any(f"'{cls.__name__}'" in text for cls in classes if cls.__module__ != "builtins"):
            return True
        empty = {id(owner) for owner, _ in self._unset_of(function)} if "'NoneType'" in text else set()
        kept = walk(self.watch.frames, lambda value: id(value) in empty) if empty else ()
        return any(each.path.rpartition(".")[2] in self._mentioned(run.task) for each in kept)

    def _mentioned(self, task: Any) -> frozenset[str]:
        """Return the names and attributes that a task, or what the user has written of its class, mentions."""
        known = self._mentions.get(task.name)
        if known is None:
            function = function_of(task, self.watch.frames)
            functions = set(self._reaches.of(task.run).functions)
            functions.update(functions_of(function, task) if function is not None else ())
            known = frozenset(name for each in functions for name in each.__code__.co_names)
            self._mentions[task.name] = known
        return known

    @staticmethod
    def _is_data(receiver: Reach, name: Name) -> bool:
        """Whether a receiver gives a name its value, or fills a container of the project's own."""
        if name in receiver.sets:
            return True
        what = receiver.changes[name]
        value = receiver.value(name)
        return isinstance(value, _CONTAINERS) and bool(what & FILLS)

    def _missed_shutdown(self, run: Run, function: Any, exc: BaseException | None) -> tuple[str, str]:
        receiver = self._reaches.of(function)
        sure, why = lost_at_exit(receiver, self._reaches.of(run.task.run), run.task.name)
        if why:
            return IGNORED if sure else UNSENT, why
        # What only lets go of something is done by the end of the process too.
        does = sorted(receiver.calls - _AFTER_FORK - {"join", "quit"})
        return (UNSENT, f"{', '.join(does[:3])}() is not called") if does else ("", "")

    def _report(self, run: Run, name: str, function: Any, kind: str, why: str) -> None:
        pool, frames = self.watch.pool.name, self.watch.frames
        code = function.__code__
        where = frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)
        what = function.__qualname__
        loses = "is lost when the worker ends" if name == _SHUTDOWN else "is missing"
        self.watch.report(
            kind,
            run,
            f"{'the loader has' if name == _LOADER else f'{name} has a receiver,'} {what}, and the {pool} pool, "
            f"which has no child processes, never {'calls' if name == _LOADER else 'sends'} it: "
            + (f"what the tasks rely on {loses}; {why}" if kind == IGNORED else why),
            [where, *self._connected_at(run.task, what), why, f"{run.task.name}[{run.id}] ran without it"],
            f"{'Call' if name == _LOADER else 'Connect'} {what} {_ELSEWHERE[name]} as well, "
            "or do it when it is needed.",
            key=where,
        )

    def _connected_at(self, task: Any, name: str) -> list[str]:
        """Return the line that connects a receiver by a call; of one that is decorated, the place says it.

        :param name: its qualified name.
        """
        frames, last = self.watch.frames, name.rpartition(".")[2]

        def connects(node: ast.AST) -> bool:
            called = isinstance(node, ast.Call) and name_of(node.func) == "connect"
            return called and any(name_of(each) == last for each in node.args)  # type: ignore[attr-defined]

        files = [str(module.__file__) for module in user_modules(frames)]
        line = find(task, files, connects, at_import=True)
        return [] if line is None else [f"connected at {frames.place_of(*line)}"]


#: Where a project does the same for pools without children.
_ELSEWHERE = {_INIT: "to worker_init", _SHUTDOWN: "to worker_shutdown", _LOADER: "in on_worker_init"}


def _names_of(value: Any, name: Name, task: Reach) -> set[Name]:
    """Return the names by which a task knows a container: its own module may have imported it."""
    if not isinstance(value, list | dict | set):
        return {name}
    return {name, *(each for each in task.reads | set(task.changes) if task.value(each) is value)}


def registered_at_exit(function: types.FunctionType) -> list[types.FunctionType]:
    """Return what the module of a function registers with ``atexit``, by its source.

    In a process of pytest's own the module is imported before anybody listens.
    """
    module = function.__globals__
    tree = tree_of(function.__code__.co_filename)
    names = set()
    for node in () if tree is None else ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_is_register(each, module) for each in node.decorator_list):
            names.add(node.name)
        elif isinstance(node, ast.Call) and _is_register(node.func, module):
            names |= {each.id for each in node.args[:1] if isinstance(each, ast.Name)}
    found = (getattr(module.get(name), "__func__", module.get(name)) for name in names)
    return [each for each in found if isinstance(each, types.FunctionType)]


def _is_register(node: ast.expr, module: dict[str, Any]) -> bool:
    if isinstance(node, ast.Name):
        return getattr(module.get(node.id), "__module__", None) == "atexit"
    return ast.unparse(node) == "atexit.register"


def lost_at_exit(last: Reach, task: Reach, name: str) -> tuple[bool, str]:
    """Return whether a task is sure to have left something that a function does at the end of a process, and what.

    :param last: what the function does that is never called.
    :param task: what the task does.
    :param name: the task's name.
    """
    for each in sorted(each for each in last.reads & set(task.changes) if task.changes[each] & FILLS):
        value = last.value(each)
        only_clears = last.changes.get(each, set()) == {"clear"} and each not in last.hands
        if isinstance(value, _CONTAINERS) and value and not only_clears:
            elements = list(value.values()) if isinstance(value, dict) else list(value)
            if all(is_plain(one) for one in elements):
                return True, f"{each.name} holds {len(value)} of what {name} put there"
    flushes = sorted(call for call in last.calls if "flush" in call)
    return False, f"{', '.join(flushes)}() is not called" if flushes else ""


_MISSING = object()


@functools.lru_cache(maxsize=64)
def _set_on_itself(function: types.FunctionType) -> frozenset[str]:
    """Return the attributes that a method sets on its own object."""
    own = function.__code__.co_varnames[:1]
    return frozenset(
        node.attr
        for node in ast.walk(definition_of(function.__code__) or ast.Pass())
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
        if node.value.id in own
    )


def _unset(value: Any) -> bool:
    return value is None or value is _MISSING or (isinstance(value, _CONTAINERS) and not value)


def _attribute(owner: Any, name: str) -> Any:
    """Return an attribute of an object or class, without running a property; of what has none, something set."""
    attributes = getattr(owner, "__dict__", None)
    if attributes is None or isinstance(owner, types.ModuleType):
        return False
    for each in (owner, *(owner.__mro__ if isinstance(owner, type) else type(owner).__mro__)):
        if name in vars(each):
            return vars(each)[name]
    return _MISSING


def _told(value: Any) -> str:
    return "not set" if value is _MISSING else repr(value)


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is plain data, or a container of that."""
    if isinstance(value, _PLAIN):
        return True
    if depth < 3 and isinstance(value, _CONTAINERS):
        return all(
            is_plain(each, depth + 1) for each in (value.values() if isinstance(value, dict) else list(value)[:20])
        )
    return False
