"""What ``functools.lru_cache`` keeps: it holds no lock while it makes something, so two tasks may make the same."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from types import FrameType
from typing import Any

from pytest_celerypool.agent.detectors.code.places import ABSENT, CACHED, PLAIN, Place, same
from pytest_celerypool.agent.detectors.code.steps import Step

#: So many of the results that are kept are looked at.
_MOST_KEPT = 8


class Kept(Place):
    """What a cached function keeps, whatever it was called with."""

    __slots__ = ()

    def __init__(self, function: Any) -> None:
        super().__init__(function, "kept")

    def value(self) -> Any:
        """Return the first object that is kept and no plain data, else any; :data:`ABSENT` if there is none.

        A result is got by a call that is sure to find it, so nothing of the user's runs.
        """
        found: Any = ABSENT
        kept = [each for each in gc.get_referents(self.owner) if type(each) is dict and each is not vars(self.owner)]
        for key in [key for each in kept for key in list(each)[:_MOST_KEPT]]:
            args = key if isinstance(key, tuple) else (key,)
            # Keys of calls by name have a mark in them, and those of a typed cache have types.
            if all(isinstance(each, PLAIN) for each in args) and any(key in each for each in kept):
                found = self.owner(*args)
                if not isinstance(found, (*PLAIN, list, dict, set, tuple)):
                    break
        return found


def calls_in(frames: list[FrameType]) -> Iterator[tuple[Step, list[Any]]]:
    """Yield the calls of cached functions that are under way in a slot, and what they were called with.

    :param frames: the user's.
    """
    for frame in frames:
        code = frame.f_code
        function: Any = frame.f_globals.get(code.co_name)
        if type(function) is CACHED and getattr(function.__wrapped__, "__code__", None) is code:
            node = ast.parse(f"{code.co_name}()", mode="eval").body
            node.lineno = code.co_firstlineno
            step = Step("use", node, (), code)
            step.place, step.value, step.how = Kept(function), function, "call"
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            yield step, [frame.f_locals.get(name) for name in names]


def is_same_call(one: tuple[Step, list[Any]], other: tuple[Step, list[Any]]) -> bool:
    """Whether two calls are of one function, with the same arguments."""
    if one[0].value is not other[0].value:
        return False
    return all(same(mine, theirs) for mine, theirs in zip(one[1], other[1], strict=True))
