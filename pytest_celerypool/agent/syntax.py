"""The syntax of source files, each read once, in processes whose other threads may read some too."""

from __future__ import annotations

import ast
import linecache
from functools import lru_cache
from types import CodeType

from pytest_celerypool.agent import originals

#: Characters of a file above which it is not read: reading it would keep the task.
LARGEST = 400_000

#: How often it is tried, and the seconds in between.
_ATTEMPTS, _PAUSE_S = 5, 0.002


def function_at(tree: ast.AST, line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the innermost function that a line is in; ``None`` where it is the module's own."""
    inside = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(inside, key=lambda node: node.lineno, default=None)


def definition_of(code: CodeType) -> ast.AST | None:
    """Return what a function is defined by: a ``def`` or a ``lambda``; ``None`` if its source is not to be had."""
    tree = tree_of(code.co_filename)
    for node in () if tree is None else ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name == code.co_name
            and code.co_firstlineno in (node.lineno, *(each.lineno for each in node.decorator_list))
        ):
            return node
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno:
            return node
    return None


def last_name(node: ast.expr) -> str:
    """Return a name, or the last one of a dotted name; an empty text of anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@lru_cache(maxsize=64)
def tree_of(filename: str) -> ast.Module | None:
    """Return the syntax tree of a source file, ``None`` if there is none to read.

    While two threads parse at once, Python 3.11 may take the depth of the one for that of the other and raise
    :exc:`SystemError` ("AST constructor recursion depth mismatch", python/cpython#106905): it is tried again.
    """
    text = "".join(linecache.getlines(filename))
    if not text.strip() or len(text) > LARGEST:
        return None
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(text)
        except SystemError:
            originals.sleep(_PAUSE_S)
        except (SyntaxError, ValueError, RecursionError):
            return None
    return None
