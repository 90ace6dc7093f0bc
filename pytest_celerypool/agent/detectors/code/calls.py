"""The steps of a task before it begins, with what is known of its arguments."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_celerypool.agent.detectors.code.flow import Flow, scope_of
from pytest_celerypool.agent.detectors.code.standing import Reader, function_of


def names_of(function: types.FunctionType, depth: int = 3) -> set[str]:
    """Return the global names and attributes that a function uses, and those functions of its module that it calls."""
    module = function.__globals__
    found: set[str] = set()
    todo = [(function.__code__, depth)]
    while todo:
        code, left = todo.pop()
        for name in code.co_names:
            if name in found:
                continue
            found.add(name)
            value = module.get(name)
            if left and isinstance(value, types.FunctionType) and value.__globals__ is module:
                todo.append((value.__code__, left - 1))
    return found


def flow_of_task(
    reader: Reader, task: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Flow | None:
    """Return the steps of a task, ``None`` if its source is not known.

    :param args: its arguments, if they are known.
    """
    function = function_of(task, reader.frames)
    if function is None:
        return None
    code = function.__code__
    given = [task.run.__self__, *args] if isinstance(task.run, types.MethodType) else list(args)
    names = dict(zip(code.co_varnames[: code.co_argcount], given, strict=False))
    names |= {name: value for name, value in (kwargs or {}).items() if name in code.co_varnames}
    return reader.flow_of(function, scope_of(function, names))
