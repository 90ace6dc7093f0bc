"""Tasks that overlap on one connection of sqlite3: they have one transaction, which whoever is first ends for all.

Whether a task has come to its first statement is not known. So of one whose code has to do with a lock nothing is said,
it may wait for that first; unless its own function sends a statement that no lock is around.

A greenlet that sees an open transaction as it begins has proof that the one who opened it has switched since. From a
thread of the system a greenlet that runs may not be looked at: the statement that opens the transaction gives up the
interpreter's lock, and the rest of it may be done before another greenlet runs. Of those that wait, two which hold the
same connection in a variable have it in common, however they came by it.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
import time
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.calls import functions_of, is_object, names_of
from pytest_celerypool.agent.detectors.code.places import Sources, method_of
from pytest_celerypool.agent.detectors.code.standing import Reader, frames_of, function_of
from pytest_celerypool.agent.detectors.code.steps import root_of
from pytest_celerypool.agent.detectors.holders import attributes_of, uses, walk
from pytest_celerypool.agent.detectors.sharing.lookout import Lookout
from pytest_celerypool.agent.detectors.state.changes import name_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_KIND = "transaction-shared"

#: What stands for the task itself, in its own methods.
_SELF = "self"

_STATEMENTS = {"execute", "executemany", "executescript", "commit", "rollback"}

#: Items of a list or tuple that are looked at.
_MOST_ITEMS = 10

_LOCK = re.compile(r"lock|mutex|acquire|semaphore", re.IGNORECASE)

#: For how many seconds tasks that have begun before the first statement are looked at, and the seconds between looks at
#: threads and at greenlets.
_FOLLOW_S, _LOOK_S, _LOOK_AT_GREENLETS_S = 2.0, 0.005, 0.05

#: Tasks whose variables are looked at.
_MOST_TASKS = 20


class Transactions(Detector):
    """Looks, as a task begins, whether another one has a transaction open on a connection that both use."""

    kinds = (Kind(_KIND, "fail", "tasks that run at once have one connection, and so one transaction"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._names: dict[Any, tuple[dict[str, Any], frozenset[str]]] = {}
        #: By task, the names and the numbers of connections that were told of.
        self._told: set[tuple[str, str | int]] = set()
        self._reader = Reader(watch.frames)
        self._sources = self._reader.sources
        self._lookout = Lookout(self, self._look_on)
        self._until = 0.0
        self.rest("started")

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where tasks share a process at the same time."""
        return watch.pool.overlaps

    def begin(self) -> None:
        """Hear of connections, if the application has imported sqlite3; before the first one no task is looked at."""
        sqlite3 = sys.modules.get("sqlite3")
        if sqlite3 is not None:
            self.before(sqlite3, "connect", self._connects)
            if any(walk(self.watch.frames, lambda each: issubclass(type(each), sqlite3.Connection))):
                self._connects()  # it was opened at import

    def _connects(self, *_: Any, **__: Any) -> None:
        if "started" in self.resting:
            self.listen("started")
            for run in self.watch.running():
                self._follow(run)

    def started(self, run: Run) -> None:
        """A task begins."""
        self._look(run)
        self._follow(run)

    def _look(self, run: Run) -> None:
        """Look whether a task has a transaction in common with others."""
        for name, value, others in self._shared(run):
            if value is not None and _is_open(value):
                self._report(run, name, value, others)

    def _shared(self, run: Run) -> Iterator[tuple[str, Any, list[Run]]]:
        """Yield the connections that a task has in common with others; ``None`` for one that is yet to be opened."""
        module, names = self._used_by(run)
        connection = sys.modules["sqlite3"].Connection
        for name in (*sorted(names & module.keys()), _SELF):
            for text, value in _held(name, run.task if name == _SELF else module[name], names):
                known = not self._told.isdisjoint({(run.task.name, text), (run.task.name, id(value))})
                if not known and (value is None or issubclass(type(value), connection)):
                    others = self._users(run, module, name)
                    if others:
                        yield text, value, others

    def _follow(self, run: Run) -> None:
        """Look at tasks that have begun at once for a while: before the first statement of any, or the connection."""
        if not self._lookout.looking and self._used_by(run)[1] and len(self._free()) > 1:
            self._until = time.monotonic() + _FOLLOW_S
            self._lookout.begin(0.0)

    def _free(self) -> list[Run]:
        """Return the tasks that run and do not wait for a lock before they send anything."""
        return [run for run in self.watch.running()[:_MOST_TASKS] if self._used_by(run)[1]]

    def _look_on(self) -> float | None:
        """Look at all that run; returns the seconds until the next look."""
        running, green = self.watch.running(), self.watch.pool.green
        for run in running if not green else ():
            self._look(run)
        self._look_at_variables()
        pause = _LOOK_AT_GREENLETS_S if green else _LOOK_S
        return pause if len(running) > 1 and time.monotonic() < self._until else None

    def _look_at_variables(self) -> None:
        """Look whether two tasks hold the same connection in variables of theirs while a transaction is open on it."""
        holders: dict[int, dict[int, tuple[str, Any, Run]]] = {}
        for run, frame in frames_of(self.watch.recorder.running, self._free()):
            for each in self._reader.user_frames(frame):
                for name, value in _connections_in(each):
                    holders.setdefault(id(value), {}).setdefault(id(run), (name, value, run))
        for held in holders.values():
            (name, value, run), *others = held.values()
            told = {(run.task.name, name), (run.task.name, id(value))}
            if others and self._told.isdisjoint(told) and _is_open(value):
                self._report(run, name, value, [other for *_, other in others])

    def _users(self, run: Run, module: dict[str, Any], name: str) -> list[Run]:
        """Return the other tasks that run and use a global, or are the same task if it is that which has something."""
        others = [other for other in self.watch.running() if other is not run]
        if name == _SELF:
            return [other for other in others if other.task is run.task]
        return [other for other in others if self._uses(other, module, name)]

    def _used_by(self, run: Run) -> tuple[dict[str, Any], frozenset[str]]:
        task = run.task
        known = self._names.get(task.name)
        if known is None:
            function = function_of(task, self.watch.frames)
            module = {} if function is None else function.__globals__
            functions = [] if function is None else functions_of(function, task)
            used = frozenset[str]().union(*map(names_of, functions))
            held = [value for name in used & module.keys() for _, value in _held(name, module[name], used)]
            held += [value for _, value in _held(_SELF, task, used)]
            guarded = any(map(_LOCK.search, used)) or any(hasattr(type(value), "acquire") for value in held)
            if guarded and function is not None:
                guarded = not sends_without_lock(function, self._sources)
            known = self._names[task.name] = module, frozenset() if guarded else used
        return known

    def _uses(self, run: Run, module: dict[str, Any], name: str) -> bool:
        theirs, names = self._used_by(run)
        return theirs is module and name in names

    def _statements(self, run: Run) -> list[str]:
        """Return the lines of a task's function, and of methods that it calls, that send or end something."""
        function = function_of(run.task, self.watch.frames)
        found: list[str] = []
        for code in [each.__code__ for each in (functions_of(function, run.task) if function is not None else ())]:
            nodes = ast.walk(self._sources.node(code) or ast.Pass())
            lines = {each.lineno for each in nodes if isinstance(each, ast.Attribute) and each.attr in _STATEMENTS}
            found += [self.watch.frames.place_of(code.co_filename, line, code.co_name) for line in sorted(lines)]
        return found

    def _report(self, run: Run, name: str, connection: Any, others: list[Run]) -> None:
        self._told |= {(run.task.name, name), (run.task.name, id(connection))}
        frames = self.watch.frames
        reached = next(walk(frames, lambda each: each is connection), None)
        lines = self._statements(run) + ([] if reached is None else uses(frames, reached, run.task.run))
        self.watch.report(
            _KIND,
            run,
            f"it runs at once with {name_of(others[0])} while a transaction is open on {name}, which both use: under "
            f"{self.watch.pool.name} tasks of one process have it in common, so a commit or rollback of one is that of "
            "all, in the middle of what the others do",
            [
                *(dict.fromkeys(lines) or ["(no line of the task's own mentions it)"]),
                *(f"runs at the same time: {other.task.name} ({other.id})" for other in others[:4]),
                f"{name}.in_transaction is True in process {os.getpid()}",
            ],
            "open the connection in the task and close it there, or take one from a pool",
            key=name,
            others=others[:4],
        )


def _connections_in(frame: types.FrameType) -> Iterator[tuple[str, Any]]:
    """Yield the connections in a function's variables, those of cursors too."""
    sqlite3 = sys.modules["sqlite3"]
    for name, value in list(frame.f_locals.items()):
        if issubclass(type(value), sqlite3.Connection):
            yield name, value
        elif issubclass(type(value), sqlite3.Cursor):
            yield name, value.connection


def _held(name: str, value: Any, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Yield what a name stands for, and those attributes of its own that a task uses if it is an object of the user's.

    An attribute that is computed when it is first asked for, and was not yet, is ``None`` here, as is what an empty
    list may hold one day.

    :param names: the names and attributes that the task uses.
    """
    yield name, value
    if type(value) in (list, tuple) and len(value) <= _MOST_ITEMS:
        yield from ((f"{name}[{index}]", each) for index, each in enumerate(value or (None,)))
    own = attributes_of(value) if is_object(value) else {}
    for each in names if own else ():
        if each in own:
            yield f"{name}.{each}", own[each]
        elif isinstance(method_of(value, each), functools.cached_property):
            yield f"{name}.{each}", None


def _is_lock(name: str, module: dict[str, Any]) -> bool:
    return bool(_LOCK.search(name)) or hasattr(type(module.get(name)), "acquire")


def sends_without_lock(function: types.FunctionType, sources: Sources) -> bool:
    """Whether a function sends a statement, or ends a transaction, while it has no lock that it has taken itself.

    Only what comes from a global is taken for a connection: ``database.execute``, or what a function of the module has
    returned. Of a function without source it is not known, and so not said.
    """
    node, module = sources.node(function.__code__), function.__globals__
    if node is None or any(isinstance(each, ast.Attribute) and each.attr == "acquire" for each in ast.walk(node)):
        return False
    assigned = {
        target.id: each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    for each in ast.walk(node):
        if isinstance(each, ast.withitem) and isinstance(each.optional_vars, ast.Name):
            assigned[each.optional_vars.id] = each.context_expr
    return any(_is_connection(owner, module, assigned, sources) for owner in _asked_without_lock(node, module))


def _asked_without_lock(node: ast.AST, module: dict[str, Any]) -> Iterator[ast.expr]:
    """Yield what statements are sent to outside of ``with lock:``."""
    if isinstance(node, ast.With) and any(
        isinstance(each, ast.Name | ast.Attribute)
        and _is_lock(each.id if isinstance(each, ast.Name) else each.attr, module)
        for item in node.items
        for each in ast.walk(item.context_expr)
    ):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _STATEMENTS:
        yield node.func.value
    for child in ast.iter_child_nodes(node):
        yield from _asked_without_lock(child, module)


def _is_connection(
    node: ast.expr | None, module: dict[str, Any], assigned: dict[str, ast.expr], sources: Sources
) -> bool:
    """Whether an expression is likely a connection that the module keeps, or a cursor of it."""
    if isinstance(node, ast.Name):
        others = {name: value for name, value in assigned.items() if name != node.id}
        if node.id in assigned:
            return _is_connection(assigned[node.id], module, others, sources)
        return issubclass(type(module.get(node.id)), sys.modules["sqlite3"].Connection)
    if isinstance(node, ast.Subscript):
        return root_of(node) in module
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "cursor" and _is_connection(node.func.value, module, assigned, sources)
    function = module.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
    definition = sources.node(function.__code__) if isinstance(function, types.FunctionType) else None
    return definition is not None and any(
        isinstance(each, ast.Return) and each.value is not None and root_of(each.value) in module
        for each in ast.walk(definition)
    )


def _is_open(connection: Any) -> bool:
    """Whether a transaction is open; a connection that is closed has none."""
    try:
        return bool(connection.in_transaction)
    except Exception:  # noqa: BLE001 - sqlite3.ProgrammingError, or what a subclass of the user's raises
        return False
