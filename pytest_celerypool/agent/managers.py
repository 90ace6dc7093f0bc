"""Tell whether a context manager swallows an exception, from the source of its ``__exit__`` or of its generator.

Only what is plain to see counts: ``return True``, a test of the exception's class, or an ``except`` around the
``yield`` of a :func:`contextlib.contextmanager` that raises nothing again. No code of the user's is run.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_celerypool.agent.syntax import definition_of

#: Names and what they stand for, the innermost first.
Names = tuple[Mapping[str, Any], ...]

#: How an exception is caught: by its own class, or by a class or a manager that was not written for it.
OWN, GENERIC = "own", "generic"


def swallows(manager: ast.expr, names: Names, raised: type[BaseException]) -> str | None:
    """Return how a manager catches an exception: :data:`OWN`, :data:`GENERIC`, or ``None`` if it does not.

    :param manager: the expression of a ``with`` statement.
    :param names: what stands around that statement.
    """
    if isinstance(manager, ast.Call):
        made = value_of(manager.func, names)
        if isinstance(made, types.FunctionType):
            generator = vars(made).get("__wrapped__")
            return _around_yield(generator, raised) if isinstance(generator, types.FunctionType) else None
        cls = made if isinstance(made, type) else None
    else:
        value = value_of(manager, names)
        cls = None if value is None else type(value)
    leave = None if cls is None else inspect.getattr_static(cls, "__exit__", None)
    return _returned(leave, raised) if isinstance(leave, types.FunctionType) else None


def how_caught(classes: ast.expr | None, names: Names, raised: type[BaseException]) -> str | None:
    """Return how an ``except`` catches an exception, in the same words.

    :param classes: what it names; ``None`` for a bare one.
    """
    caught = [cls for cls in _classes(classes, names) if issubclass(raised, cls)]
    if not caught:
        return None
    return OWN if raised in caught else GENERIC


def value_of(node: ast.expr, names: Names) -> Any:
    """Return what a name, or an attribute of a module or class, stands for; ``None`` where that is not known."""
    if isinstance(node, ast.Name):
        return next((each[node.id] for each in (*names, vars(builtins)) if node.id in each), None)
    if isinstance(node, ast.Attribute):
        owner: Any = value_of(node.value, names)
        if isinstance(owner, types.ModuleType | type):
            return vars(owner).get(node.attr)
        try:
            return object.__getattribute__(owner, "__dict__").get(node.attr)
        except AttributeError:  # it has slots, or nothing
            return None
    return None


def _classes(node: ast.expr | None, names: Names) -> list[type[BaseException]]:
    if node is None:
        return [BaseException]
    if isinstance(node, ast.Tuple):
        return [cls for each in node.elts for cls in _classes(each, names)]
    value = value_of(node, names)
    found = value if isinstance(value, tuple) else (value,)
    return [cls for cls in found if isinstance(cls, type) and issubclass(cls, BaseException)]


def _around_yield(generator: types.FunctionType, raised: type[BaseException]) -> str | None:
    definition, names = definition_of(generator.__code__), (generator.__globals__,)
    tries = [node for node in _own(definition) if isinstance(node, ast.Try)]
    # The innermost one around the yield comes last in the order of lines.
    for node in sorted(tries, key=lambda each: -each.lineno):
        if not any(isinstance(each, ast.Yield) for statement in node.body for each in ast.walk(statement)):
            continue
        for handler in node.handlers:
            how = how_caught(handler.type, names, raised)
            if how is not None:
                raises = any(isinstance(each, ast.Raise) for each in ast.walk(handler))
                return None if raises else how
    return None


def _returned(leave: types.FunctionType, raised: type[BaseException]) -> str | None:
    """Return how an ``__exit__`` catches an exception by what it returns."""
    definition, names = definition_of(leave.__code__), (leave.__globals__,)
    body = definition.body if isinstance(definition, ast.FunctionDef) else []
    exception = {argument.arg for argument in definition.args.args[1:3]} if body else set()  # type: ignore[union-attr]
    for statement in body:
        how = _decided(statement, exception, names, raised)
        if how is not _OPEN:
            return how
    return None


#: A statement after which the function goes on.
_OPEN = "open"


def _decided(statement: ast.stmt, exception: set[str], names: Names, raised: type[BaseException]) -> str | None:
    """Return what a statement says of an exception, :data:`_OPEN` if nothing yet."""
    if isinstance(statement, ast.Return):
        return None if statement.value is None else _true_of(statement.value, exception, names, raised)
    if isinstance(statement, ast.Raise):
        return None
    if not isinstance(statement, ast.If):
        # What a loop or a ``try`` returns is not followed.
        returns = any(isinstance(each, ast.Return) for each in ast.walk(statement))
        return None if returns else _OPEN
    test = _true_of(statement.test, exception, names, raised)
    if test is None and not _is_of(statement.test, exception):
        # It asks for something else: both ways are open, and only if neither returns it is known how it goes on.
        return None if any(isinstance(each, ast.Return) for each in ast.walk(statement)) else _OPEN
    for each in statement.body if test is not None else statement.orelse:
        how = _decided(each, exception, names, raised)
        if how is not _OPEN:
            return OWN if how is not None and test is OWN else how
    return _OPEN


def _true_of(test: ast.expr, exception: set[str], names: Names, raised: type[BaseException]) -> str | None:
    """Return how an expression is true of an exception; ``None`` if it is not, or that is not known."""
    if isinstance(test, ast.Constant):
        return GENERIC if test.value else None
    if isinstance(test, ast.Name):
        return GENERIC if test.id in exception else None
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        known = _is_of(test.operand, exception) and _true_of(test.operand, exception, names, raised) is None
        return GENERIC if known else None
    if isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id in ("isinstance", "issubclass"):
        return how_caught(test.args[1], names, raised) if _is_of(test, exception) else None
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and _is_of(test, exception):
        right = test.comparators[0]
        if isinstance(right, ast.Constant) and right.value is None:
            return GENERIC if isinstance(test.ops[0], ast.IsNot | ast.NotEq) else None
        same = isinstance(test.ops[0], ast.Is | ast.Eq) and raised in _classes(right, names)
        return OWN if same or (isinstance(test.ops[0], ast.In) and raised in _classes(right, names)) else None
    if isinstance(test, ast.BoolOp):
        found = [_true_of(each, exception, names, raised) for each in test.values]
        if isinstance(test.op, ast.And):
            return None if None in found else (OWN if OWN in found else GENERIC)
        return next((each for each in found if each is not None), None)
    return None


def _is_of(test: ast.expr, exception: set[str]) -> bool:
    """Whether an expression asks for nothing but the exception."""
    if isinstance(test, ast.Call):
        return len(test.args) == 2 and _is_of(test.args[0], exception)
    if isinstance(test, ast.Compare):
        return _is_of(test.left, exception)
    if isinstance(test, ast.UnaryOp):
        return _is_of(test.operand, exception)
    if isinstance(test, ast.BoolOp):
        return all(_is_of(each, exception) for each in test.values)
    return isinstance(test, ast.Name) and test.id in exception


def _own(definition: ast.AST | None) -> Iterator[ast.AST]:
    """Yield what a function has, without the functions in it."""
    for child in () if definition is None else ast.iter_child_nodes(definition):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own(child)
