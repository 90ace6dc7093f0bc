"""Tell which ``except`` of the code above a line catches an exception that is raised at this line.

Python itself does not say where an exception was swallowed. The source of the frames on the stack does: the innermost
``try`` around the line whose handlers match, or the innermost ``with`` whose manager swallows it.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from types import FrameType
from typing import NamedTuple, TypeAlias

from pytest_celerypool.agent.frames import TRACER
from pytest_celerypool.agent.managers import GENERIC, Names, how_caught, swallows
from pytest_celerypool.agent.syntax import last_name, tree_of

#: What may catch; a statement that leaves a ``finally``, which drops what is raised:
#: https://docs.python.org/3/reference/compound_stmts.html#finally-clause.
_Node: TypeAlias = ast.ExceptHandler | ast.With | ast.AsyncWith | ast.Return | ast.Break | ast.Continue


class Catcher(NamedTuple):
    """What catches an exception.

    :ivar frame: the frame in whose code it is.
    :ivar line: of the ``except``, or of the ``with``.
    :ivar generic: whether it does not name the exception's own class: it was not written for it.
    """

    frame: FrameType
    line: int
    generic: bool


def catcher(frame: FrameType | None, raised: type[BaseException]) -> Catcher | None:
    """Return what catches an exception of class `raised` in `frame` or above, up to where Celery called the task."""
    while frame is not None and not frame.f_code.co_filename.endswith(TRACER):
        names = frame.f_locals, frame.f_globals
        for node in _around(frame.f_code.co_filename, frame.f_lineno):
            how = _catches(node, names, raised)
            if how is not None:
                return Catcher(frame, node.lineno, how == GENERIC)
        frame = frame.f_back
    return None


def _catches(node: _Node, names: Names, raised: type[BaseException]) -> str | None:
    """Return how a clause or a statement catches an exception; code of the user's is not run for it."""
    if isinstance(node, ast.ExceptHandler):
        return how_caught(node.type, names, raised)
    if not isinstance(node, ast.With | ast.AsyncWith):
        return GENERIC
    managers = [item.context_expr for item in node.items]
    for manager in managers[::-1]:
        if isinstance(manager, ast.Call) and last_name(manager.func) == "suppress":
            found = [how_caught(each, names, raised) for each in manager.args]
            how = next((each for each in found if each is not None), None)
        else:
            how = swallows(manager, names, raised)
        if how is not None:
            return how
    return None


def _around(filename: str, line: int) -> list[_Node]:
    """Return what stands around a line and may catch: clauses and ``with`` statements, the innermost first."""
    around = [node for node in _tree(filename) if _inside(line, node.body)]
    found: list[_Node] = []
    for node in sorted(around, key=lambda each: -each.body[0].lineno):
        if isinstance(node, ast.With | ast.AsyncWith):
            found.append(node)
        else:
            found += [*node.handlers, *_leaving(node.finalbody)]
    return found


def _leaving(final: list[ast.stmt]) -> list[_Node]:
    """Return what is certain to leave a ``finally``: of its own statements, not of those under a condition."""
    return [each for each in final if isinstance(each, ast.Return | ast.Break | ast.Continue)]


def _inside(line: int, body: list[ast.stmt]) -> bool:
    return body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)


@lru_cache(maxsize=64)
def _tree(filename: str) -> list[ast.Try | ast.TryStar | ast.With | ast.AsyncWith]:
    tree = tree_of(filename)
    nodes = () if tree is None else ast.walk(tree)
    return [node for node in nodes if isinstance(node, ast.Try | ast.TryStar | ast.With | ast.AsyncWith)]
