"""Read the syntax of source files in processes whose other threads may do the same."""

from __future__ import annotations

import ast

from pytest_celerypool.agent import originals

#: How often it is tried, and the seconds in between.
_ATTEMPTS, _PAUSE_S = 5, 0.002


def parse(text: str) -> ast.Module:
    """Return the syntax tree of a text; raises what :func:`ast.parse` raises.

    While two threads parse at once, Python 3.11 may take the depth of the one for that of the other and raise
    :exc:`SystemError` ("AST constructor recursion depth mismatch", python/cpython#106905).
    """
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(text)
        except SystemError:
            originals.sleep(_PAUSE_S)
    return ast.Module(body=[], type_ignores=[])
