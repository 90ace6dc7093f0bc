"""Find, without running anything, the object that an expression of the user's code names.

A place is where code keeps a value: a global name, an attribute of an object, an item of a dictionary. Two tasks share
a place if both reach the same owner. Nothing here calls the user's code: a property, a proxy or a ``__getitem__`` of
the user's own is not asked, the expression then names nothing that is known.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import copy
import functools
import os
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_celerypool.agent.syntax import tree_of

#: What an expression names that is not known.
UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "UNKNOWN"})()

#: The value of an expression that makes a new object each time it is evaluated.
FRESH: Any = type("Fresh", (), {"__repr__": lambda self: "FRESH"})()

#: The key of a place that stands for all items of a container.
ALL: Any = type("All", (), {"__repr__": lambda self: "ALL"})()

#: There is nothing at a place.
ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "nothing"})()

#: Values that can be told from one another by ``==`` without running code of the user's.
PLAIN = (str, bytes, int, float, bool, type(None))

#: Items of a container of which a copy is made to see what an expression names.
_MOST_COPIED = 1000

_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)

#: What ``functools.lru_cache`` makes.
CACHED: Any = type(functools.lru_cache(len))

#: What looks an attribute up without code of the user's.
_ORDINARY: tuple[Any, ...] = tuple(
    cls.__getattribute__ for cls in (object, type, dict, list, set, types.SimpleNamespace)
)

#: Methods of a text that make another of it alone.
_OF_TEXTS = {"upper", "lower", "strip", "title", "capitalize", "casefold"}

#: Functions of the library whose results differ from call to call.
_NEVER_TWICE = {"time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "uuid1", "uuid4", "now", "utcnow"}


class Place:
    """Where a value is kept.

    :ivar owner: the dictionary, list, set or object that holds the value.
    :ivar key: key, index or name of the attribute; :data:`ALL` for every item.
    :ivar attribute: whether `key` is the name of an attribute.
    """

    __slots__ = ("attribute", "identity", "key", "owner")

    def __init__(self, owner: Any, key: Any, *, attribute: bool = False) -> None:
        self.owner, self.key, self.attribute = owner, key, attribute
        self.identity = (id(owner), attribute, key)

    def value(self) -> Any:
        """Return what is there now: :data:`ABSENT` if nothing is, :data:`UNKNOWN` if it cannot be told."""
        owner, key = self.owner, self.key
        if self.attribute:
            return attribute_of(owner, key)[1]
        if key is ALL:
            return UNKNOWN
        return item_of(owner, key)


def attribute_of(owner: Any, name: str) -> tuple[Any, Any]:
    """Return the object that holds an attribute, and its value; ``(UNKNOWN, UNKNOWN)`` where code would have to run."""
    cls: Any = type(owner)
    if cls.__getattribute__ not in _ORDINARY or is_local(owner):
        return UNKNOWN, UNKNOWN
    own = getattr(owner, "__dict__", None)
    if own is not None and name in own and not isinstance(owner, type):
        return owner, own[name]
    for base in owner.__mro__ if isinstance(owner, type) else cls.__mro__:
        if name in vars(base):
            value = vars(base)[name]
            plain = not hasattr(type(value), "__get__")
            return (base, value) if plain else (UNKNOWN, UNKNOWN)
    return owner, ABSENT


def is_local(owner: Any) -> bool:
    """Whether an object is one for each thread or greenlet."""
    return isinstance(owner, threading.local) or type(owner).__name__ in ("local", "Local", "corolocal", "ContextVar")


def item_of(owner: Any, key: Any) -> Any:
    """Return an item of a container, :data:`ABSENT` or :data:`UNKNOWN`."""
    try:
        if isinstance(owner, dict) and type(owner).__getitem__ is dict.__getitem__:
            return dict.get(owner, key, ABSENT)
        if isinstance(owner, list) and isinstance(key, int):
            return list.__getitem__(owner, key)
        if isinstance(owner, tuple) and isinstance(key, int):
            return tuple.__getitem__(owner, key)
        if isinstance(owner, set | frozenset):
            return key if key in owner else ABSENT
        if isinstance(owner, collections.abc.MutableMapping):  # the headers of a client, mostly
            return owner.get(key, ABSENT)
    except (IndexError, KeyError):
        return ABSENT
    except Exception:  # noqa: BLE001 - a mapping of somebody's own may raise anything
        return UNKNOWN
    return UNKNOWN


def differ(one: Any, other: Any) -> bool:
    """Whether two values are certainly not the same."""
    if one is other or any(each is UNKNOWN or each is FRESH for each in (one, other)):
        return False
    return not _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    """Whether two pieces of plain data are equal; of other objects none is."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(a is b or _equal(a, b) for a, b in zip(one, other, strict=True))
    return isinstance(one, PLAIN) and isinstance(other, PLAIN) and one == other


def same(one: Any, other: Any) -> bool:
    """Whether two values are certainly the same."""
    if one is UNKNOWN or one is FRESH or one is ABSENT:
        return False
    return one is other or (type(one) is type(other) and _equal(one, other))


def show(value: Any, most: int = 60) -> str:
    """Return a value as text; of an object that is not plain data, what it is."""
    if value is ABSENT:
        return "nothing"
    try:
        if isinstance(value, str | bytes):
            value = value[:most]  # the text of all of it may be long
        plain = isinstance(value, (*PLAIN, list, dict, set, tuple))
        text = repr(value) if plain else f"<{type(value).__module__}.{type(value).__qualname__} at {id(value):#x}>"
    except Exception:  # noqa: BLE001 - an item may have a repr of the user's own
        text = f"<{type(value).__name__}>"
    return text if len(text) <= most else text[: most - 1] + "…"


class Scope:
    """The names that code sees.

    :param names: its local names; those that may change their meaning while it runs must not be among them.
    :param module: its global names.
    """

    __slots__ = ("closed", "module", "names")

    def __init__(self, names: Mapping[str, Any], module: dict[str, Any]) -> None:
        self.names = dict(names)
        self.module = module
        #: Local names that are not known.
        self.closed: frozenset[str] = frozenset()

    def get(self, name: str) -> Any:
        """Return what a name stands for."""
        if name in self.names:
            return self.names[name]
        if name in self.closed:
            return UNKNOWN
        if name in self.module:
            return task_behind(self.module[name])
        return getattr(builtins, name, UNKNOWN)


def task_behind(value: Any) -> Any:
    """Return the task for which a proxy of Celery's stands in the user's module, and anything else as it is."""
    # By name: Celery need not be imported, and no proxy is asked what it is.
    if type(value).__name__ == "PromiseProxy" and value.__evaluated__():
        return value._get_current_object()
    return value


def resolve(node: ast.expr | None, scope: Scope) -> Any:
    """Return the value that an expression has now, as far as that is known without running anything."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return scope.get(node.id)
    if isinstance(node, ast.Attribute | ast.Subscript):
        place = place_of(node, scope)
        value = UNKNOWN if place is None else task_behind(place.value())
        return UNKNOWN if value is ABSENT else value
    if isinstance(node, _DISPLAYS):
        return FRESH
    if isinstance(node, ast.Tuple):
        parts = [resolve(each, scope) for each in node.elts]
        return tuple(parts) if all(isinstance(each, PLAIN) for each in parts) else UNKNOWN
    if isinstance(node, ast.JoinedStr):
        return _joined(node, scope)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = resolve(node.left, scope), resolve(node.right, scope)
        return left + right if type(left) is type(right) and isinstance(left, str | int | float) else UNKNOWN
    if isinstance(node, ast.Call):
        return _called(node, scope)
    return UNKNOWN


def _joined(node: ast.JoinedStr, scope: Scope) -> Any:
    parts = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            value = resolve(part.value, scope)
            if not isinstance(value, str | int) or part.format_spec is not None or part.conversion != -1:
                return UNKNOWN
            parts.append(str(value))
        else:
            parts.append(str(resolve(part, scope)))
    return "".join(parts)


def _called(node: ast.Call, scope: Scope) -> Any:
    function: Any = resolve_callable(node.func, scope)
    if isinstance(function, type):
        new: Any = function.__new__
        return FRESH if new is object.__new__ or function in (dict, list, set) else UNKNOWN
    if getattr(function, "__name__", "") in _NEVER_TWICE and not isinstance(function, types.FunctionType):
        return FRESH
    if isinstance(node.func, ast.Attribute) and node.func.attr in _OF_TEXTS and not node.args and not node.keywords:
        text = resolve(node.func.value, scope)
        return getattr(text, node.func.attr)() if type(text) is str else UNKNOWN
    if function is str and len(node.args) == 1:
        value = resolve(node.args[0], scope)
        return str(value) if isinstance(value, str | int) else UNKNOWN
    return UNKNOWN


def shallow_copy(node: ast.expr, scope: Scope) -> Any:
    """Return a copy of what an expression copies, whose items are the same; :data:`UNKNOWN` if it copies nothing."""
    copied: ast.expr | None = None
    match node:
        case ast.Call(func=ast.Attribute(value=base, attr="copy"), args=[]):
            copied = base
        case ast.Call(func=ast.expr() as function, args=[base]) if _copies(resolve_callable(function, scope)):
            copied = base
        case ast.Dict(keys=[None, *_], values=[base, *_]):
            copied = base
    value = UNKNOWN if copied is None else resolve(copied, scope)
    return value.copy() if type(value) in (dict, list) and len(value) <= _MOST_COPIED else UNKNOWN


def _copies(function: Any) -> bool:
    return any(function is each for each in (dict, list, copy.copy))


def place_of(node: ast.expr, scope: Scope) -> Place | None:
    """Return the place that a name, attribute or item stands for; of a local name ``None``."""
    if isinstance(node, ast.Name):
        known = node.id in scope.names or node.id in scope.closed
        return None if known else Place(scope.module, node.id)
    if isinstance(node, ast.Attribute):
        base = resolve(node.value, scope)
        if base is UNKNOWN or base is FRESH:
            return None
        if isinstance(base, types.ModuleType):
            return Place(vars(base), node.attr)
        owner, _ = attribute_of(base, node.attr)
        if owner is UNKNOWN:
            return None
        # What the class holds is hidden by what is assigned to the object, and not changed.
        return Place(base, node.attr, attribute=True)
    if isinstance(node, ast.Subscript):
        base, key = resolve(node.value, scope), resolve(node.slice, scope)
        return item_place(base, key)
    return None


def item_place(base: Any, key: Any) -> Place | None:
    """Return the place of an item of a container; the environment is watched by whom changes it (``state.py``)."""
    if base is os.environ:
        return None
    if not isinstance(base, list | set | dict | collections.abc.MutableMapping) or not hashable(key):
        return None
    return Place(base, key)


def hashable(key: Any) -> bool:
    """Whether a key is known, and hashed without code of the user's."""
    return isinstance(key, PLAIN) or (isinstance(key, tuple) and all(hashable(each) for each in key))


def resolve_callable(node: ast.expr, scope: Scope) -> Any:
    """Return the function that a call calls; of a method, the function of its class."""
    if isinstance(node, ast.Attribute):
        base = resolve(node.value, scope)
        if base is UNKNOWN or base is FRESH:
            return UNKNOWN
        if isinstance(base, types.ModuleType):
            return vars(base).get(node.attr, UNKNOWN)
        return method_of(base, node.attr)
    return resolve(node, scope)


def method_of(base: Any, name: str) -> Any:
    """Return the plain function that a method of an object is."""
    for cls in base.__mro__ if isinstance(base, type) else type(base).__mro__:
        if name in vars(cls):
            found = vars(cls)[name]
            return found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return UNKNOWN


class Sources:
    """The syntax of the user's functions, each file read once."""

    def __init__(self) -> None:
        self._files: dict[str, dict[tuple[int, str], ast.AST]] = {}

    def node(self, code: types.CodeType) -> ast.FunctionDef | None:
        """Return the definition of a function, ``None`` if its source is not to be had."""
        functions = self._files.get(code.co_filename)
        if functions is None:
            functions = self._files[code.co_filename] = dict(self._read(code.co_filename))
        return functions.get((code.co_firstlineno, code.co_name))  # type: ignore[return-value]

    @staticmethod
    def _read(filename: str) -> Iterator[tuple[tuple[int, str], ast.AST]]:
        tree = tree_of(filename)
        for node in () if tree is None else ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
                yield (first, node.name), node
