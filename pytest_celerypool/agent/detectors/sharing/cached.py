"""What ``functools.lru_cache`` keeps: it holds no lock while it makes something, so two tasks may make the same."""

from __future__ import annotations

import ast
import gc
import itertools
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
        """Return the first object that is kept and no plain data, else any; :data:`ABSENT` if there is none."""
        found: Any = ABSENT
        for found in itertools.islice(_results(self.owner), _MOST_KEPT):
            if not isinstance(found, (*PLAIN, list, dict, set, tuple)):
                break
        return found


def _results(function: Any) -> Iterator[Any]:
    """Yield what is kept, without a call: that would count as a hit, or make anew what was dropped meanwhile.

    ``lru_cache`` shows the garbage collector a dict by key. Without a bound its values are the results; with one they
    are links of a list, and of each link the key and the result are shown one after the other
    (``lru_cache_tp_traverse`` in CPython's Modules/_functoolsmodule.c).
    """
    shown = gc.get_referents(function)
    kept = next((each for each in shown if type(each) is dict and each is not vars(function)), {})
    if function.cache_parameters()["maxsize"] is None:
        yield from list(kept.values())
        return
    keys = {id(key) for key in list(kept)}
    yield from (result for key, result in itertools.pairwise(shown) if id(key) in keys)


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
