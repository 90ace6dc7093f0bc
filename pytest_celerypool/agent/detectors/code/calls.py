"""What a task calls, and its steps before it begins, with what is known of its arguments."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_celerypool.agent.detectors.code.flow import Flow, scope_of
from pytest_celerypool.agent.detectors.code.places import method_of
from pytest_celerypool.agent.detectors.code.standing import Reader, function_of
from pytest_celerypool.agent.detectors.holders import attributes_of


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
            if left and type(value) is types.FunctionType and value.__globals__ is module:
                todo.append((value.__code__, left - 1))
    return found


def functions_of(function: types.FunctionType, task: Any) -> list[types.FunctionType]:
    """Return a task's function, and those methods that it calls of objects of its module, by way of each other too.

    :param task: whose own methods and properties it may call as well.
    """
    module, found, names, asked = function.__globals__, [function], names_of(function), set[str]()
    owners = [task, *(module[name] for name in names & module.keys() if is_object(module[name]))]
    while names - asked:
        new, asked = names - asked, set(names)
        methods = [function_behind(method_of(owner, name)) for owner in owners for name in sorted(new)]
        for method in methods:
            if isinstance(method, types.FunctionType) and method.__globals__ is module and method not in found:
                found.append(method)
                names |= names_of(method)
    return found


def function_behind(method: Any) -> Any:
    """Return the function of a property, of one that keeps its value, or of a decorated method."""
    inner = getattr(method, "fget", None) or getattr(method, "func", None) or method
    while (wrapped := getattr(inner, "__wrapped__", None)) is not None:
        inner = wrapped
    return inner


def is_object(value: Any) -> bool:
    """Whether something is an object with attributes of its own; a proxy is not asked what it stands for."""
    return bool(attributes_of(value)) and not issubclass(type(value), type | types.ModuleType)


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
