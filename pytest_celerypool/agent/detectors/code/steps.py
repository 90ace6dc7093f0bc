"""One thing that the user's code does, and what is known while its code is walked."""

from __future__ import annotations

import ast
import contextlib
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pytest_celerypool.agent.detectors.code.places import UNKNOWN, Place, Scope

#: A branch: which test, and which of its outcomes.
Label = tuple[int, str]


class Step:
    """One thing that code does.

    :ivar kind: ``"read"`` or ``"write"`` of :attr:`place`, ``"use"`` of an object as a whole (:attr:`value`),
        ``"enter"`` and ``"leave"`` around a call or whatever else may wait.
    :ivar value: what is written, as far as it is known; the object that is used.
    :ivar sources: of a write: the identities of places that the value was made from.
    :ivar how: the method or syntax by which it is done.
    :ivar tested: of a read: whether what is done next depends on what was read.
    """

    __slots__ = ("code", "how", "kind", "node", "path", "place", "sources", "tested", "value")

    def __init__(self, kind: str, node: ast.AST, path: tuple[Label, ...], code: types.CodeType) -> None:
        self.kind, self.node, self.path, self.code = kind, node, path, code
        self.place: Place | None = None
        self.value: Any = UNKNOWN
        self.sources: frozenset[Any] = frozenset()
        self.how = ""
        self.tested = False

    @property
    def line(self) -> int:
        """The number of its line."""
        return getattr(self.node, "lineno", self.code.co_firstlineno)

    def within(self, path: Sequence[Label]) -> bool:
        """Whether it is done for certain once a point with `path` is reached."""
        return all(label in path for label in self.path)


#: How things are added to a container as a whole, :attr:`Step.how`.
FILLING = {"append", "appendleft", "add", "extend", "insert", "write", "writelines"}


class Walk:
    """What is known while the body of one function is walked."""

    __slots__ = ("changing", "derived", "filled", "live", "own", "scope")

    def __init__(self, scope: Scope, *, live: bool, changing: frozenset[str]) -> None:
        self.scope, self.live, self.changing = scope, live, changing
        self.derived: dict[str, frozenset[Any]] = {}
        self.filled: dict[str, Step] = {}
        #: Names of objects made here.
        self.own: set[str] = set()


def root_of(node: ast.expr) -> str:
    """Return the name that a chain of attributes and items begins with, ``""`` if it begins with none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def is_whole(node: ast.expr) -> bool:
    """Whether an expression is a slice of everything: ``items[:]``."""
    return isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice) and ast.unparse(node.slice) == ":"


def scope_of(function: types.FunctionType, names: dict[str, Any]) -> Scope:
    """Return what the body of a function sees, besides its arguments `names` the variables it closes over."""
    closed = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            closed[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return Scope({**closed, **names}, function.__globals__)


def manager_around(function: Any) -> Any:
    """Return the object of a ``contextlib.ContextDecorator`` that a function is decorated with, or ``None``."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_filename != contextlib.__file__ or "self" not in code.co_freevars:
        return None
    return function.__closure__[code.co_freevars.index("self")].cell_contents


def method_of_user(base: Any, name: str, is_user: Callable[[str], bool]) -> Any:
    """Return the method of an object if it is written in one of the user's files."""
    for cls in type(base).__mro__:
        found = vars(cls).get(name)
        if found is not None:
            code = getattr(found, "__code__", None)
            return found if code is not None and is_user(code.co_filename) else None
    return None


def reads_of(value: Any, place: Place) -> bool:
    """Whether using an object as a whole reads a place: its own, or one of what its attributes or items hold."""
    if place.owner is value:
        return True
    if isinstance(value, dict | list | set):
        return False
    own = getattr(value, "__dict__", None)
    return isinstance(own, dict) and any(held is place.owner for held in own.values())


def given_names(node: ast.FunctionDef) -> frozenset[str]:
    """Return the arguments of a function but ``self``, and the local names of what is made of them."""
    arguments = node.args
    given = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)} - {"self", "cls"}
    given |= {each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None}
    while True:
        made = {
            name.id
            for target, value in _bindings(node)
            if any(isinstance(each, ast.Name) and each.id in given for each in ast.walk(value))
            for name in ast.walk(target)
            if isinstance(name, ast.Name)
        }
        if made <= given:
            return frozenset(given)
        given |= made


def _bindings(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    for each in ast.walk(node):
        if isinstance(each, ast.Assign):
            yield from ((target, each.value) for target in each.targets)
        elif isinstance(each, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and each.value is not None:
            yield each.target, each.value
        elif isinstance(each, ast.For | ast.comprehension):
            yield each.target, each.iter
        elif isinstance(each, ast.withitem) and each.optional_vars is not None:
            yield each.optional_vars, each.context_expr


def bound_twice(node: ast.FunctionDef) -> frozenset[str]:
    """Return the local names that stand for several things in the course of a function."""
    arguments = node.args
    seen = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    twice: set[str] = set()
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store | ast.Del):
            (twice if each.id in seen else seen).add(each.id)
        elif isinstance(each, ast.Global):
            twice.update(each.names)
    return frozenset(twice)
