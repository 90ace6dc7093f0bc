"""Classes of gevent's and eventlet's that take the place of one of Python's, and lack something that it has.

``queue.Queue`` of a patched process is one of the library's: it has no ``all_tasks_done``, which the SDK of Sentry and
others wait on (https://github.com/getsentry/sentry-python/issues/471).
"""

from __future__ import annotations

import ast
import sys
from typing import NamedTuple

from pytest_celerypool.agent.syntax import tree_of

#: Modules of Python in which the libraries put classes of their own.
_MODULES = ("queue", "threading", "socket", "ssl", "select", "selectors", "subprocess")

#: Where eventlet keeps its own: objects of some of its classes are handed out by functions, such as ``current_thread``.
_GREEN = "eventlet.green."


class Lacking(NamedTuple):
    """What a class lacks.

    :ivar module: of Python, which has a class with that attribute.
    :ivar name: of the attribute.
    :ivar substitute: the class that is used instead.
    """

    module: str
    name: str
    substitute: str


def lacking(exc: BaseException, pool: str) -> Lacking | None:
    """Return what an exception misses in an object, if a class of the pool's library lacks what Python's own has.

    :param pool: its name, which is that of its library.
    """
    name, asked = getattr(exc, "name", None), getattr(exc, "obj", None)
    if not isinstance(exc, AttributeError) or not isinstance(name, str) or asked is None:
        return None
    for cls in type(asked).__mro__:
        module = _replaced(cls, pool)
        if module is not None and _defines(module, name):
            return Lacking(module, name, f"{cls.__module__}.{cls.__qualname__}")
    return None


def _replaced(cls: type, pool: str) -> str | None:
    """Return the module of Python in whose place a class is."""
    if not cls.__module__.startswith(f"{pool}."):
        return None
    for name in _MODULES:
        module = sys.modules.get(name)
        if module is not None and any(value is cls for value in list(vars(module).values())):
            return name
    return cls.__module__.removeprefix(_GREEN).lower() if cls.__module__.startswith(_GREEN) else None


def _defines(module: str, name: str) -> bool:
    """Whether a class in the source of a module has an attribute or a method of that name."""
    filename = getattr(sys.modules.get(module), "__file__", None)
    tree = tree_of(filename) if isinstance(filename, str) else None
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] if tree is not None else []
    return any(_is_definition(node, name) for cls in classes for node in ast.walk(cls))


def _is_definition(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == name
    return isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store)
