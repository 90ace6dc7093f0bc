"""Find what the user's modules hold: their globals, and what can be reached from these.

All of this takes milliseconds. It is called where something was seen already, or once for each child at its fork.
"""

from __future__ import annotations

import ast
import functools
import linecache
import logging
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinMethodType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.syntax import function_at, last_name, tree_of

#: At most so many objects are looked at, and so many items of one container.
_MOST = 20_000
_ITEMS = 300

#: Objects of these packages are not the user's: Celery's own, some of them proxies that begin to work when they are
#: looked at, and where a worker runs in the process of pytest, what that hangs to the loggers.
_OTHERS = ("celery.", "kombu.", "billiard.", "vine.", "_pytest.", "pytest_celerypool.")


class Reached(NamedTuple):
    """Something that can be reached from a global of a user's module.

    :ivar value: the thing.
    :ivar module: the module.
    :ivar name: the name of the global.
    :ivar path: how it is reached, as Python would say it: ``tasks.POOL._idle[0]``.
    :ivar holder: the innermost container on the way; ``None`` if there is none.
    :ivar keys: the keys of the mappings on the way.
    """

    value: Any
    module: ModuleType
    name: str
    path: str
    holder: Any
    keys: tuple[Any, ...]


def user_modules(frames: Frames) -> list[ModuleType]:
    """Return the modules that are the user's own."""
    return [
        module
        for module in list(sys.modules.values())
        if type(module) is ModuleType and isinstance(file := vars(module).get("__file__"), str) and frames.is_user(file)
    ]


def mentions(frames: Frames, pattern: re.Pattern[str]) -> bool:
    """Whether a line of the user's modules has a match of a pattern."""
    files = [str(module.__file__) for module in user_modules(frames)]
    return any(pattern.search(line) for file in files for line in linecache.getlines(file))


def walk(frames: Frames, wanted: Callable[[Any], bool], depth: int = 4) -> Iterator[Reached]:
    """Yield what is wanted of all that the globals of the user's modules, and the loggers, hold, each object once.

    :param wanted: is asked for each object; it must not call anything of the object itself.
    :param depth: how many steps from a global.
    """
    seen: set[int] = set()
    todo: deque[tuple[Reached, int]] = deque()
    for module in user_modules(frames):
        for name, value in list(vars(module).items()):
            if not name.startswith("__"):
                todo.append((Reached(value, module, name, f"{module.__name__}.{name}", None, ()), depth))
    for name, logger in [("", logging.root), *logging.Logger.manager.loggerDict.items()]:
        if isinstance(logger, logging.Logger):
            todo.append((Reached(logger, logging, name, f"logging.getLogger({name!r})", None, ()), depth))
    while todo and len(seen) < _MOST:
        reached, left = todo.popleft()
        if id(reached.value) in seen:
            continue
        seen.add(id(reached.value))
        if wanted(reached.value):
            yield reached
        if left:
            todo.extend((one, left - 1) for one in _inside(reached))


def _inside(reached: Reached) -> Iterator[Reached]:
    value = reached.value
    cls: Any = type(value)
    if cls in (str, bytes, bytearray, int, float, bool, type(None), ModuleType):
        return
    if f"{cls.__module__}.".startswith(_OTHERS):
        return
    if issubclass(cls, dict):
        for key, item in list(value.items())[:_ITEMS]:
            yield reached._replace(
                value=item, path=f"{reached.path}[{_text(key)}]", holder=value, keys=(*reached.keys, key)
            )
    elif issubclass(cls, (list, tuple, set, frozenset, deque)):
        for number, item in enumerate(list(value)[:_ITEMS]):
            yield reached._replace(value=item, path=f"{reached.path}[{number}]", holder=value)
    if cls in (MethodType, BuiltinMethodType):
        # As in ``send = connection.send``; of a function in C it is the module.
        yield reached._replace(value=value.__self__, path=f"{reached.path}.__self__")
        return
    if cls is functools.partial:
        for number, item in enumerate((value.func, *value.args, *value.keywords.values())):
            yield reached._replace(value=item, path=f"{reached.path}.<{number or 'function'}>")
        return
    if cls is FunctionType:
        for free, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield reached._replace(value=cell.cell_contents, path=f"{reached.path}.<{free}>")
            except ValueError:  # not assigned yet
                continue
        for argument, item in _defaults(value):
            yield reached._replace(value=item, path=f"{reached.path}.{argument}")
        return
    if isinstance(value, type):
        attributes = dict(vars(value)) if value.__module__ == reached.module.__name__ else {}
    else:
        attributes = attributes_of(value)
    for name, item in attributes.items():
        if not name.startswith("__"):
            yield reached._replace(value=item, path=f"{reached.path}.{name}")


def _defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the arguments of a function that have defaults, with these."""
    values = function.__defaults__ or ()
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    yield from zip(names[len(names) - len(values) :], values, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the attributes that an object itself has, without calling anything of its class."""
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except (AttributeError, TypeError):
        return {}
    return dict(attributes) if isinstance(attributes, dict) else {}


def _text(key: Any) -> str:
    return repr(key)[:40] if isinstance(key, str | int | bytes) else f"<{type(key).__name__}>"


# -- lines


def made_at(frames: Frames, reached: Reached) -> list[str]:
    """Return the places that make something: where a global is assigned, and the attribute by which it is reached.

    What is assigned ``None`` is made elsewhere, if there is such a place.
    """
    filename = getattr(reached.module, "__file__", None)
    tree = None if filename is None else tree_of(filename)
    if filename is None or tree is None:
        return []
    attribute = reached.path.rpartition(".")[2].partition("[")[0]
    found: list[str] = []
    for name, kind in ((reached.name, ast.Name), (attribute, ast.Attribute)):
        nodes = list(_assignments(tree, name, kind)) if kind is ast.Name or name != reached.name else []
        node = next((each for each in nodes if not _is_none(each)), nodes[0] if nodes else None)
        if node is not None:
            function = function_at(tree, _line(node))
            found.append(frames.place_of(filename, _line(node), "<module>" if function is None else function.name))
    return found


def _assignments(tree: ast.AST, name: str, kind: type[ast.Name | ast.Attribute]) -> Iterator[ast.AST]:
    """Yield what assigns to a name, or to an attribute of any object."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets = [node.target]
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            targets = [node.optional_vars]
        assigned = [each for target in targets for each in ast.walk(target) if isinstance(each, kind)]
        if any(isinstance(each.ctx, ast.Store) and name == last_name(each) for each in assigned) and (
            kind is ast.Attribute or _is_global(tree, node, name)
        ):
            yield node


def _is_global(tree: ast.AST, node: ast.AST, name: str) -> bool:
    """Whether a name that is assigned is the module's, and not a function's own."""
    function = function_at(tree, _line(node))
    return function is None or any(isinstance(each, ast.Global) and name in each.names for each in ast.walk(function))


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0) or next(each.lineno for each in ast.walk(node) if hasattr(each, "lineno"))


def _is_none(node: ast.AST) -> bool:
    value = getattr(node, "value", None)
    return isinstance(value, ast.Constant) and value.value is None


def uses(frames: Frames, reached: Reached, function: Any) -> list[str]:
    """Return the places that mention something: a task's own function the global, others the attribute it is in.

    Where neither is found, any function of the module that mentions the global.

    :param function: the task's own.
    """
    filename = str(reached.module.__file__)
    tree = tree_of(filename)
    if tree is None:
        return []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    function = getattr(function, "__wrapped__", function)
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    own = [
        node for node in functions if code is not None and code.co_filename == filename and node.name == code.co_name
    ]
    attribute = reached.path.rpartition(".")[2].partition("[")[0]
    places = _mentions_in(frames, filename, own, lambda node: isinstance(node, ast.Name) and node.id == reached.name)
    if attribute != reached.name:
        places += _mentions_in(
            frames,
            filename,
            [node for node in functions if node.name != "__init__"],
            lambda node: isinstance(node, ast.Attribute) and node.attr == attribute,
        )
    return list(dict.fromkeys(places)) or _mentions_in(
        frames, filename, functions, lambda node: isinstance(node, ast.Name) and node.id == reached.name
    )


def additions(frames: Frames, reached: Reached) -> list[str]:
    """Return the places where functions of its module put something into a container, or methods of its own class."""
    filename = str(reached.module.__file__)
    tree = tree_of(filename)
    nodes = [] if tree is None else list(ast.walk(tree))
    name, cls = reached.path.rpartition(".")[2].partition("[")[0], type(reached.value).__name__
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    own = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == cls]
    methods = [node for each in own for node in each.body if isinstance(node, ast.FunctionDef)]
    return _mentions_in(frames, filename, functions, lambda node: _adds(node, name)) or _mentions_in(
        frames, filename, methods, lambda node: _adds(node, "self")
    )


def _adds(node: ast.AST, name: str) -> bool:
    """Whether something is put into what has a name, or is an attribute of that name."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in _PUT and _mentions(node.func.value, name)
    found = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AugAssign):
        found = [node.target]
    return any(isinstance(each, ast.Subscript) and _mentions(each.value, name) for each in found)


def _mentions_in(
    frames: Frames, filename: str, functions: Iterable[ast.AST], mentions: Callable[[ast.AST], bool]
) -> list[str]:
    """Return the first three places in functions of a file that have what is asked for."""
    lines = {
        node.lineno: function.name  # type: ignore[attr-defined]
        for function in functions
        for node in ast.walk(function)
        if mentions(node)
    }
    return [frames.place_of(filename, line, lines[line]) for line in sorted(lines)[:3]]


#: Methods that put something into a container.
_PUT = frozenset({"append", "appendleft", "add", "extend", "insert", "setdefault", "update"})

#: Methods that take something out of a container.
_TAKE = frozenset({"pop", "popitem", "popleft", "clear", "remove", "discard", "cache_clear"})


def is_emptied(reached: Reached) -> bool:
    """Whether the module that a global belongs to takes anything out of it, or assigns it anew in a function."""
    tree = tree_of(str(reached.module.__file__))
    name = reached.path.rpartition(".")[2].partition("[")[0].partition("<")[0] or reached.name
    for node in ast.walk(tree) if tree is not None else ():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _TAKE
            and _mentions(node.func.value, name)
        ):
            return True
        if isinstance(node, ast.Delete) and any(_mentions(target, name) for target in node.targets):
            return True
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice) and _mentions(target.value, name)
            for target in node.targets
        ):
            return True
        if isinstance(node, ast.Global) and name in node.names:
            return True
    return False


def _mentions(node: ast.expr, name: str) -> bool:
    while isinstance(node, ast.Subscript):
        node = node.value
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


# -- threads


def user_threads(frames: Frames) -> list[threading.Thread]:
    """Return the living threads, but for the main one, that run code of the user's."""
    alive = sys._current_frames()
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and is_user_thread(frames, thread, alive.get(thread.ident or 0))
    ]


def is_user_thread(frames: Frames, thread: threading.Thread, frame: FrameType | None) -> bool:
    """Whether a thread has the user's code as its target or class, or is in it at this moment."""
    if frame is not None and frames.user_frame(frame) is not None:
        return True
    target = target_of(thread)
    code = getattr(target, "__code__", None)
    return code is not None and frames.is_user(code.co_filename)


def target_of(thread: threading.Thread) -> Any:
    """Return the function that a thread runs: its target, what a timer calls, or its class's own ``run``."""
    target = thread.function if isinstance(thread, threading.Timer) else getattr(thread, "_target", None)
    if target is None and type(thread).run is not threading.Thread.run:
        target = type(thread).run
    return getattr(target, "__func__", target)
