"""What objects keep in memory until a function is called at the exit of the process; a child of prefork never calls it.

``atexit.register(spool.flush)``, ``atexit.register(write, totals)``, ``weakref.finalize(usage, save, totals)``: the
containers that such a call works on are known by the object and the arguments, and not by a name of a module.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pytest_celerypool.agent.detectors.holders import attributes_of
from pytest_celerypool.agent.detectors.promises.init_signals import is_plain
from pytest_celerypool.agent.syntax import definition_of

_CONTAINERS = (list, dict, set)

#: Of whose containers a copy and a comparison run no code of the user's.
_LIBRARIES = ("builtins", "collections")

#: Items of a container that are compared with what was there at the fork.
_MOST = 1000


class Keeper(NamedTuple):
    """A call that is to be made at the exit of the process.

    :ivar function: of the user's; a ``types.FunctionType``, which mypy would take for a method here.
    :ivar containers: what it works on, each under a name.
    :ivar how: what it is registered with.
    """

    function: Any
    containers: list[tuple[str, Any]]
    how: str


def keeper_of(called: Any, args: tuple[Any, ...], how: str, is_user: Callable[[str], bool]) -> Keeper | None:
    """Return what a call at the exit works on; ``None`` if it is not the user's, or works on nothing that is kept.

    :param called: what was registered, with its arguments.
    :param is_user: tells the user's files.
    """
    while isinstance(called, functools.partial):
        called, args = called.func, (*called.args, *called.keywords.values(), *args)
    function = getattr(called, "__func__", called)
    if not isinstance(function, types.FunctionType) or not is_user(function.__code__.co_filename):
        return None
    names = function.__code__.co_varnames
    owner = getattr(called, "__self__", None)
    found = [(name, value) for name, value in zip(names[owner is not None :], args, strict=False) if _is_kept(value)]
    if owner is not None and not isinstance(owner, type | types.ModuleType):
        read = _read_of_itself(function)
        found += [
            (f"{type(owner).__name__}.{name}", value)
            for name, value in attributes_of(owner).items()
            if name in read and _is_kept(value)
        ]
    return Keeper(function, found, how) if found else None


def filled_since(keeper: Keeper, before: dict[int, Any]) -> str | None:
    """Return which container of a call has what was not there at the fork, and what a task may have left there.

    :param before: copies of the containers as they were at the fork, by their numbers.
    """
    for name, value in keeper.containers:
        if value and len(value) <= _MOST and is_plain(value) and value != before.get(id(value)):
            return f"{name} holds {len(value)} of what tasks have left there since the fork"
    return None


def copies_of(keepers: list[Keeper]) -> dict[int, Any]:
    """Return copies of all containers, by their numbers."""
    return {id(value): value.copy() for keeper in keepers for _, value in keeper.containers if len(value) <= _MOST}


def _is_kept(value: Any) -> bool:
    return issubclass(type(value), _CONTAINERS) and type(value).__module__ in _LIBRARIES


def _read_of_itself(function: types.FunctionType) -> set[str]:
    """Return the attributes of its own object that a method reads for more than to empty them."""
    nodes = list(ast.walk(definition_of(function.__code__) or ast.Pass()))
    cleared = {
        node.func.value
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "clear"
    }
    return {node.attr for node in _own_attributes(nodes, function) if node not in cleared}


def _own_attributes(nodes: list[ast.AST], function: types.FunctionType) -> Iterator[ast.Attribute]:
    own = function.__code__.co_varnames[:1]
    for node in nodes:
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        if isinstance(node.value, ast.Name) and node.value.id in own:
            yield node
