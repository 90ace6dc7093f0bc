"""State of the user's modules that only the parent of prefork's children has: made before the fork, or after it.

What was made at import is the same in every child, the parent's process id included. What a receiver of
``worker_ready`` or ``task_received`` sets is set after the fork, in the parent; a control command runs there too.
"""

from __future__ import annotations

import ast
import functools
import linecache
import os
import re
import time
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.calls import functions_of, names_of
from pytest_celerypool.agent.detectors.code.flow import Flow, Step, scope_of
from pytest_celerypool.agent.detectors.code.places import ALL, Scope, place_of
from pytest_celerypool.agent.detectors.code.standing import function_of, name_of
from pytest_celerypool.agent.detectors.code.steps import root_of
from pytest_celerypool.agent.detectors.holders import user_modules
from pytest_celerypool.agent.detectors.sharing.changes import Change, items_of, key_of, text_of
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.reach import FILLS, reach
from pytest_celerypool.agent.receivers import connect, receivers_of
from pytest_celerypool.agent.syntax import tree_of
from pytest_celerypool.agent.watch import Watch

if TYPE_CHECKING:
    from pytest_celerypool.agent.detectors.sharing.children import Children

#: Seconds after which the receivers of ``worker_ready`` have been called.
_AFTER_READY_S = 0.05

#: So many keys are written down that receivers of ``task_received`` have set.
_MOST_FILLED = 200

#: Functions whose results are taken to tell one process from another.
_UNIQUE = {"getpid", "uuid1", "uuid4", "token_hex", "token_urlsafe", "urandom"}


class MadeBeforeFork(Detector):
    """Looks at what tasks read for values that were to tell one process from another and were made at import."""

    kinds = (Kind("made-before-fork", "warn", "what was to tell processes apart was made at import, before the fork"),)

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where slots are processes."""
        return watch.pool.forks

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._parent = os.getpid()
        self._known: dict[str, list[tuple[str, int, str, str, str]]] = {}
        #: What was made at import, by name and file, as it was then.
        self._values: dict[tuple[str, str], Any] = {}

    def begin(self) -> None:
        """The application is imported, in this process."""
        self._parent = os.getpid()
        for module in user_modules(self.watch.frames):
            for name in made_at_import(str(module.__file__)):
                self._values[name, str(module.__file__)] = _value_of(vars(module), name)

    def started(self, run: Run) -> None:
        """Look once at each task, in each child; report each execution that uses such a value."""
        found = self._known.get(run.task.name)
        if found is None:
            found = self._known[run.task.name] = self._look(run)
        if not found:
            self.pass_over(run.task.name, "started")
        for name, line, function, filename, what in found:
            self._report(run, name, line, function, filename, what)

    def forked(self) -> None:
        """Go on in a child."""
        self._known = {}

    def _look(self, run: Run) -> list[tuple[str, int, str, str, str]]:
        function = function_of(run.task, self.watch.frames)
        if function is None or os.getpid() == self._parent:
            return []
        module = function.__globals__
        filename = function.__code__.co_filename
        made = made_at_import(filename)
        if not made:
            return []
        found = []
        functions = functions_of(function, run.task)
        used = set[str]().union(*map(names_of, functions))
        for name, (line, maker) in made.items():
            last, value = name.rpartition(".")[2], _value_of(module, name)
            if last in used and value is self._values.get((name, filename), value):  # a child may make it anew
                inside = (
                    self._of_parent(value)
                    if maker == "getpid"
                    else any(_is_part_of_text(each, last) or _is_written_to(each, last) for each in functions)
                )
                if inside and not _is_compared(filename, last, value):
                    what = f"{name} {'has' if _is_object(value) else 'is'} {_text(value)}, made by {maker}() "
                    found.append((name, line, function.__code__.co_name, filename, what))
        return found

    def _of_parent(self, value: Any) -> bool:
        return any(
            each == self._parent if isinstance(each, int) else re.search(rf"(?<!\d){self._parent}(?!\d)", each)
            for each in _parts(value)
            if isinstance(each, int | str)
        )

    def _report(self, run: Run, name: str, line: int, function: str, filename: str, what: str) -> None:
        self.watch.report(
            "made-before-fork",
            run,
            f"{what}when the module was imported: the parent ({self._parent}) did that before the fork, and under "
            f"prefork {name} is the same in every child",
            [
                self.watch.frames.place_of(filename, line, "<module>"),
                f"used in {function} in child {os.getpid()}, a child of {self._parent}",
            ],
            "make it when it is first used and again if os.getpid() has changed, or in a receiver of "
            "worker_process_init",
            key=name,
        )


@functools.lru_cache(maxsize=64)
def made_at_import(filename: str) -> dict[str, tuple[int, str]]:
    """Return the global names that a file assigns from a function like ``os.getpid``: line, name of the function.

    Of what a class has of the kind also its attribute, as ``Class.attribute``.
    """
    # Most files name none of them, and need not be parsed.
    named = any(name in line for line in linecache.getlines(filename) for name in _UNIQUE)
    tree = tree_of(filename) if named else None
    if tree is None:
        return {}
    found: dict[str, tuple[int, str]] = {}
    #: Classes whose objects have something of the kind from their beginning.
    classes: dict[str, tuple[int, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            _look_into_class(node, found, classes)
        for target, value in _pairs(node):
            maker, root = _maker_in(value), root_of(target)
            if maker is not None and root:
                found[root] = node.lineno, maker
            elif isinstance(target, ast.Name) and _called(value) in classes:
                found[target.id] = classes[_called(value)]
            elif isinstance(target, ast.Name) and _names_in(value) & set(found):
                # made from another that was made so
                origin = sorted(_names_in(value) & set(found))[0]
                found[target.id] = node.lineno, found[origin][1]
    return found


def _pairs(node: ast.stmt) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        return [(node.target, node.value)]
    if not isinstance(node, ast.Assign):
        return []
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        return list(zip(target.elts, node.value.elts, strict=False))
    return [(target, node.value)]


def _look_into_class(
    node: ast.ClassDef, found: dict[str, tuple[int, str]], classes: dict[str, tuple[int, str]]
) -> None:
    for statement in node.body:
        for target, value in _pairs(statement):
            maker = _maker_in(value)
            if maker is not None:
                found[node.name] = statement.lineno, maker
                if isinstance(target, ast.Name):
                    found[f"{node.name}.{target.id}"] = statement.lineno, maker
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            for each in ast.walk(statement):
                maker = _maker_in(each.value) if isinstance(each, ast.Assign) else None
                if maker is not None:
                    classes[node.name] = each.lineno, maker  # type: ignore[attr-defined]


def _maker_in(node: ast.AST) -> str | None:
    return next((name for name in map(_called, ast.walk(node)) if name in _UNIQUE), None)


def _is_object(value: Any) -> bool:
    """Whether a value keeps others in attributes."""
    return hasattr(value, "__dict__") and not isinstance(value, types.ModuleType | types.FunctionType)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    return list(vars(value).values()) if _is_object(value) else [value]


def _text(value: Any) -> str:
    """Return a value as text; of an object its attributes."""
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if not _is_object(value):
        return text_of(value)
    held = {name: each for name, each in vars(value).items() if isinstance(each, int | str) and name[:2] != "__"}
    return ", ".join(f"{name}={each!r}" for name, each in sorted(held.items())[:4])


def _value_of(module: dict[str, Any], name: str) -> Any:
    """Return the value of a global, or of the attribute of a class."""
    owner, _, attribute = name.rpartition(".")
    return vars(module[owner]).get(attribute) if isinstance(module.get(owner), type) else module.get(name)


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _attributes_in(node: ast.AST) -> set[str]:
    return {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


def _is_part_of_text(function: types.FunctionType, name: str) -> bool:
    """Whether a function, or one of its module that it calls, makes a text or a key of a name and another value.

    A name that stands for a run or a deployment is rightly the same everywhere; the first part of an id is not.
    """
    functions = [function, *(function.__globals__.get(each) for each in function.__code__.co_names)]
    for each in functions:
        if not isinstance(each, types.FunctionType) or each.__globals__ is not function.__globals__:
            continue
        tree = tree_of(each.__code__.co_filename)
        for node in () if tree is None else ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.BinOp) and _inside(node, each.__code__):
                made = name in _names_in(node) | {
                    each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)
                }
                steps = any(_called(part) in ("next", "count") for part in ast.walk(node))
                if made and steps:
                    return True
    return False


def _is_written_to(function: types.FunctionType, name: str) -> bool:
    """Whether a function writes anew the file, or makes the folder, that a name stands for."""
    tree = tree_of(function.__code__.co_filename)
    calls = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call) and _inside(node, function.__code__)
    ]
    return any(
        isinstance(call.func, ast.Attribute)
        and call.func.attr in ("write_text", "write_bytes", "mkdir")
        and name in _names_in(call.func.value) | _attributes_in(call.func.value)
        for call in calls
    )


def _is_compared(filename: str, name: str, value: Any) -> bool:
    """Whether the file compares a global name, or what its object keeps, with the process id: it knows of forks."""
    names = {name, *(vars(value) if _is_object(value) else ())}
    tree = tree_of(filename)
    for node in () if tree is None else ast.walk(tree):
        compares = isinstance(node, ast.Compare) and any(_called(each) == "getpid" for each in ast.walk(node))
        if compares and names & (_attributes_in(node) | _names_in(node)):
            return True
    return False


def _inside(node: ast.expr, code: types.CodeType) -> bool:
    lines = [line for _, _, line in code.co_lines() if line is not None]
    return bool(lines) and code.co_firstlineno <= node.lineno <= max(lines)


class Filled(NamedTuple):
    """A container that a receiver in the parent fills.

    :ivar known: the keys that are written down.
    :ivar about: who fills it, in words.
    :ivar line: where.
    """

    owner: dict[Any, Any] | set[Any]
    known: set[Any]
    about: str
    line: str


class Parent:
    """What the parent of the children does to its copy of the user's modules, for :class:`Children`."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._held: list[tuple[Step, str]] = []
        self._filled: list[Filled] = []
        self._disconnect: Callable[[], None] = lambda: None
        self._commands: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}

    def begin(self) -> None:
        """Note what the receivers of ``worker_ready`` and ``task_received`` are going to set."""
        from celery import signals

        frames = self._children.watch.frames
        for function in receivers_of(signals.worker_ready, frames):
            for step in self._steps(function):
                if step.kind == "write" and step.place is not None and step.place.key is not ALL:
                    self._held.append((step, text_of(step.place.value())))
        for function in receivers_of(signals.task_received, frames):
            self._filled += self._filled_by(function)
        if self._filled:
            received = self._children.watch.guarded(self._children, self._received)
            self._disconnect = connect((signals.task_received, received))

    def _filled_by(self, function: types.FunctionType) -> list[Filled]:
        """Return the containers that a receiver of ``task_received``, which runs in the parent, puts something into."""
        frames = self._children.watch.frames
        found = reach(function, frames.is_user)
        code = function.__code__
        line = frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)
        about = f"{code.co_name}, a receiver of task_received,"
        owners = [found.value(name) for name, what in found.changes.items() if what & FILLS]
        return [Filled(each, set(each), about, line) for each in owners if isinstance(each, dict | set)]

    def _received(self, **_: Any) -> None:
        """A task has been received, and the receivers have been told: write down what they have put there."""
        now = time.monotonic()
        for owner, known, about, line in self._filled:
            new = set(owner) - known
            if not new or len(known) > _MOST_FILLED:
                continue
            who = (os.getpid(), about, "")
            changes = [Change(*who, id(owner), key_of(key), "nothing", "there", 0.0, now, line) for key in new]
            changes.append(Change(*who, id(owner), "", str(len(known)), str(len(known) + len(new)), 0.0, now, line))
            known |= new
            self._children.publish(changes)

    def ready(self, controller: Any) -> None:
        """Write down what they have set, once they have; watch control commands."""
        if self._held:
            controller.timer.call_after(_AFTER_READY_S, self._publish)
        from celery.worker.control import Panel

        for name, function in list(Panel.data.items()):
            code = getattr(function, "__code__", None)
            if code is not None and self._children.watch.frames.is_user(code.co_filename):
                watched = self._watched(function, self._children.watch.guarded(self._children, self._answered))
                self._commands[name] = function, watched
                Panel.data[name] = watched

    def remove(self) -> None:
        """Put the control commands back."""
        self._disconnect()
        if self._commands:
            from celery.worker.control import Panel

            for name, (function, watched) in self._commands.items():
                if Panel.data.get(name) is watched:
                    Panel.data[name] = function
            self._commands.clear()

    def _steps(self, function: types.FunctionType) -> list[Step]:
        flow: Flow | None = self._children.reader.flow_of(function, scope_of(function, _defaults(function)))
        return flow.steps if flow is not None else []

    def _publish(self) -> None:
        now = time.monotonic()
        changes = []
        for step, before in self._held:
            after = text_of(step.place.value())  # type: ignore[union-attr]
            if after != before:
                place: Any = step.place
                line = self._children.line(step)
                about = (os.getpid(), f"{step.code.co_name}, a receiver of worker_ready,", "")
                changes.append(Change(*about, id(place.owner), key_of(place.key), before, after, 0.0, now, line))
        self._children.publish(changes)

    @staticmethod
    def _watched(function: Any, answered: Callable[..., None]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            answered(function)
            return result

        return command

    def _answered(self, function: types.FunctionType) -> None:
        """A control command has looked at this process's copy: tell if tasks have changed theirs."""
        self._children.catch_up()
        scope = Scope({}, function.__globals__)
        node = self._children.reader.sources.node(function.__code__)
        if node is None:
            return
        for each in ast.walk(node):
            if not isinstance(each, ast.Name | ast.Attribute | ast.Subscript) or not isinstance(each.ctx, ast.Load):
                continue
            place = place_of(each, scope)
            value = place.value() if place is not None else None
            change = self._changed(place, value) if place is not None else None
            if change is not None:
                step = Step("read", each, (), function.__code__)
                self._children.tell(
                    "cache-differs",
                    None,
                    step,
                    change,
                    f"the control command {function.__name__} reads {name_of(step)}, which {change.task} changes: "
                    "under prefork commands run in the parent and tasks in its children, so it never sees what they do",
                    "keep what commands tell in Redis or the database, or count by Celery's signals and events in the "
                    "parent",
                )
                return

    def _changed(self, place: Any, value: Any) -> Change | None:
        """Return what a child changed of a value, or of the container that it is, and is not so here."""
        others = self._children.others(id(place.owner), key_of(place.key))
        if others and others[-1].after != text_of(value):
            return others[-1]
        if isinstance(value, dict | list | set):
            for change in self._children.of_owner(id(value)):
                now = str(items_of(value)[0]) if not change.key else None
                if now != change.after and (change.key == "" or _lacks(value, change)):
                    return change
        return None


def _lacks(value: Any, change: Change) -> bool:
    if isinstance(value, dict):
        return all(key_of(key) != change.key or text_of(held) != change.after for key, held in value.items())
    return all(key_of(each) != change.key for each in value)


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    code = function.__code__
    values = function.__defaults__ or ()
    return dict(zip(code.co_varnames[code.co_argcount - len(values) : code.co_argcount], values, strict=False))
