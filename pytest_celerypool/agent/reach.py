"""Read from the source of a function which names of modules it sets, changes and reads, itself or through others.

Nothing of it is run. Calls are followed into other functions of the project as far as their names can be told.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_celerypool.agent.syntax import definition_of

#: How many functions are followed from one, and how deep.
_MOST, _DEEPEST = 60, 5


#: What puts something into a container, as :attr:`Reach.changes` names it.
FILLS = {"[]=", "append", "extend", "update", "add", "setdefault", "insert"}


class Name(NamedTuple):
    """A name of a module: the identity of its globals, and the name itself."""

    module: int
    name: str


class Reach:
    """What a function does with names of modules.

    :ivar sets: names that it assigns.
    :ivar changes: name to what is done with its value: ``"[]="``, ``".attribute="``, or a method that is called.
    :ivar reads: names that it reads.
    :ivar hands: names that it hands to what it calls, or goes through.
    :ivar calls: the last names of what it calls, but for functions of the project that were read.
    :ivar globals: the globals behind the identity in a :class:`Name`.
    :ivar functions: all that were read.
    """

    def __init__(self) -> None:
        self.sets: set[Name] = set()
        self.changes: dict[Name, set[str]] = {}
        self.reads: set[Name] = set()
        self.hands: set[Name] = set()
        self.calls: set[str] = set()
        self.globals: dict[int, dict[str, Any]] = {}
        self.functions: set[types.FunctionType] = set()

    def value(self, name: Name, default: Any = None) -> Any:
        """Return the value of a name now."""
        return self.globals[name.module].get(name.name, default)


def reach(function: Callable[..., Any], is_user: Callable[[str], bool]) -> Reach:
    """Return what `function` does.

    :param is_user: tells whether a file is the project's.
    """
    found = Reach()
    _follow(function, is_user, found, 0)
    return found


class Reaches:
    """What functions do, each of them read once.

    :param is_user: tells whether a file is the project's.
    """

    def __init__(self, is_user: Callable[[str], bool]) -> None:
        self._is_user = is_user
        self._known: dict[Any, Reach] = {}

    def of(self, function: Any) -> Reach:
        """Return what `function` does."""
        known = self._known.get(function)
        if known is None:
            known = self._known[function] = reach(function, self._is_user)
        return known


def _follow(function: Any, is_user: Callable[[str], bool], found: Reach, depth: int) -> bool:
    """Read a function and those that it calls; return whether it could be read."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(function, types.FunctionType):
        return False
    if function in found.functions:
        return True
    if depth > _DEEPEST or len(found.functions) >= _MOST or not is_user(function.__code__.co_filename):
        return False
    tree = definition_of(function.__code__)
    if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):  # a lambda is not followed
        tree = None
    if tree is not None:
        found.functions.add(function)
        found.globals[id(function.__globals__)] = function.__globals__
        reader = _Reader(function, found)
        for statement in tree.body:
            reader.visit(statement)
        for name, called in reader.called:
            if not _follow(called, is_user, found, depth + 1):
                found.calls.add(name)
    return tree is not None


class _Reader(ast.NodeVisitor):
    def __init__(self, function: types.FunctionType, found: Reach) -> None:
        self._globals = function.__globals__
        code = function.__code__
        self._local = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
        self._found = found
        self.called: list[tuple[str, Any]] = []

    def _name(self, node: ast.expr) -> Name | None:
        """Return the name of a module that an expression is: a global, or an attribute of a module."""
        if isinstance(node, ast.Name) and node.id not in self._local:
            return Name(id(self._globals), node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id not in self._local:
            owner = self._globals.get(node.value.id)
            if isinstance(owner, types.ModuleType):
                self._found.globals[id(vars(owner))] = vars(owner)
                return Name(id(vars(owner)), node.attr)
        return None

    def visit_Name(self, node: ast.Name) -> None:
        self._touch(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if self._name(node) is not None:
            self._touch(node)
            return
        name = self._name(node.value)
        if name is not None and isinstance(node.ctx, ast.Store | ast.Del):
            self._found.changes.setdefault(name, set()).add(f".{node.attr}=")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        name = self._name(node.value)
        if name is not None and isinstance(node.ctx, ast.Store | ast.Del):
            self._found.changes.setdefault(name, set()).add("[]=")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        name = self._name(function)
        if name is not None:
            value = self._found.globals.get(name.module, self._globals).get(name.name)
            self.called.append((name.name, value))
        elif isinstance(function, ast.Name):
            self.called.append((function.id, None))
        elif isinstance(function, ast.Attribute):
            value = None
            owner = self._name(function.value)
            if owner is not None:
                self._found.changes.setdefault(owner, set()).add(function.attr)
                value = self._found.globals.get(owner.module, self._globals).get(owner.name)
            self.called.append((function.attr, None if owner is None else _method(value, function.attr)))
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            self._hand(argument)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._hand(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._hand(node.iter)
        self.generic_visit(node)

    def _hand(self, node: ast.expr) -> None:
        name = self._name(node)
        if name is not None:
            self._found.hands.add(name)

    def _touch(self, node: ast.Name | ast.Attribute) -> None:
        name = self._name(node)
        if name is None:
            return
        if isinstance(node.ctx, ast.Load):
            self._found.reads.add(name)
        else:
            self._found.sets.add(name)


def _method(value: Any, name: str) -> Any:
    """Return a method of a class or an object without running a property of the user's."""
    cls = value if isinstance(value, type) else type(value)
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None
