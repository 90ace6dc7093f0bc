"""Tell which ``except`` of the code above a line catches an exception that is raised at this line.

Python itself does not say where an exception was swallowed. The source of the frames on the stack does: the innermost
``try`` around the line whose handlers match.
"""

from __future__ import annotations

import ast
import builtins
import types
from functools import lru_cache
from types import FrameType
from typing import Any, NamedTuple

from pytest_celerypool.agent.frames import TRACER
from pytest_celerypool.agent.syntax import tree_of


class Catcher(NamedTuple):
    """What catches an exception.

    :ivar frame: the frame in whose code it is.
    :ivar line: of the ``except``, or of the ``with suppress(…)``.
    :ivar generic: whether it does not name the exception's own class: it was not written for it.
    """

    frame: FrameType
    line: int
    generic: bool


def catcher(frame: FrameType | None, raised: type[BaseException]) -> Catcher | None:
    """Return what catches an exception of class `raised` in `frame` or above, up to where Celery called the task."""
    while frame is not None and not frame.f_code.co_filename.endswith(TRACER):
        for line, classes in _handlers(frame.f_code.co_filename, frame.f_lineno):
            caught = [cls for cls in _resolve(classes, frame) if issubclass(raised, cls)]
            if caught:
                return Catcher(frame, line, raised not in caught)
        frame = frame.f_back
    return None


def _handlers(filename: str, line: int) -> list[tuple[int, ast.expr | None]]:
    """Return line and class expression of the handlers that stand around a line, the innermost first."""
    tree = _tree(filename)
    found: list[tuple[int, list[tuple[int, ast.expr | None]]]] = []
    for node in tree:
        if isinstance(node, ast.Try) or type(node).__name__ == "TryStar":
            body = node.body  # type: ignore[attr-defined]
            if _inside(line, body):
                found.append((body[0].lineno, [(each.lineno, each.type) for each in node.handlers]))  # type: ignore[attr-defined]
        elif isinstance(node, ast.With | ast.AsyncWith) and _inside(line, node.body):
            for item in node.items:
                call = item.context_expr
                if isinstance(call, ast.Call) and _last_name(call.func) == "suppress":
                    found.append((node.body[0].lineno, [(node.lineno, each) for each in call.args]))
    return [handler for _, handlers in sorted(found, key=lambda each: -each[0]) for handler in handlers]


def _inside(line: int, body: list[ast.stmt]) -> bool:
    return body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@lru_cache(maxsize=64)
def _tree(filename: str) -> list[ast.AST]:
    tree = tree_of(filename)
    nodes = () if tree is None else ast.walk(tree)
    return [node for node in nodes if isinstance(node, ast.Try | ast.With | ast.AsyncWith)]


def _resolve(node: ast.expr | None, frame: FrameType) -> list[type[BaseException]]:
    """Return the exception classes that an expression names; code of the user's is not run for it."""
    if node is None:
        return [BaseException]
    if isinstance(node, ast.Tuple):
        return [cls for each in node.elts for cls in _resolve(each, frame)]
    value = _value(node, frame)
    if isinstance(value, tuple):
        return [cls for cls in value if isinstance(cls, type) and issubclass(cls, BaseException)]
    return [value] if isinstance(value, type) and issubclass(value, BaseException) else []


def _value(node: ast.expr, frame: FrameType) -> Any:
    if isinstance(node, ast.Name):
        for names in (frame.f_locals, frame.f_globals, vars(builtins)):
            if node.id in names:
                return names[node.id]
    elif isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        if isinstance(owner, types.ModuleType | type):
            return vars(owner).get(node.attr)
    return None
