"""What ``functools.lru_cache`` and cached properties keep: two tasks that run at once may both make it.

``lru_cache`` holds no lock while it makes something.
"""

from __future__ import annotations

import ast
import gc
import itertools
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, TypeGuard
from weakref import WeakKeyDictionary

from pytest_celerypool.agent.detectors.code.places import ABSENT, CACHED, PLAIN, Place, Sources, same
from pytest_celerypool.agent.detectors.code.steps import Step
from pytest_celerypool.agent.detectors.holders import attributes_of

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
    kept = _by_key(function, shown)
    if function.cache_parameters()["maxsize"] is None:
        yield from list(kept.values())
        return
    keys = {id(key) for key in list(kept)}
    yield from (result for key, result in itertools.pairwise(shown) if id(key) in keys)


def _by_key(function: Any, shown: list[Any]) -> dict[Any, Any]:
    return next((each for each in shown if type(each) is dict and each is not vars(function)), {})


def keys_of(function: Any) -> list[Any]:
    """Return what the results of a cached function are kept under: an argument, or a tuple of all."""
    return list(_by_key(function, gc.get_referents(function)))


def is_plain(key: Any) -> bool:
    """Whether a key is plain data, of which an equal one may come again."""
    return all(map(is_plain, key)) if isinstance(key, tuple) else isinstance(key, PLAIN)


class Property(Place):
    """Where a property keeps for an object what it has computed once: the dictionary of the object."""

    __slots__ = ()

    def value(self) -> Any:
        """Return what is kept, :data:`ABSENT` if nothing is."""
        return attributes_of(self.owner).get(self.key, ABSENT)


def calls_in(frames: list[FrameType]) -> Iterator[tuple[Step, list[Any]]]:
    """Yield the calls that are to be made once and are under way in a slot, and what they were called with.

    These are calls of functions that ``lru_cache`` keeps the results of, and of cached properties. That of the standard
    library has a lock of threads, which greenlets pass, and since Python 3.12 none (python/cpython#87634).

    :param frames: the user's.
    """
    for frame in frames:
        code = frame.f_code
        function = _cached(code, frame.f_globals)
        if function is not None:
            step = _step(frame, f"{code.co_name}()", function, Kept(function))
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            yield step, [frame.f_locals.get(name) for name in names]
        place = _property(frame)
        if place is not None:
            yield _step(frame, f"{type(place.owner).__name__}.{place.key}", place.owner, place), [place.key]


def acts(step: Step, sources: Sources) -> bool:
    """Whether a function whose results are kept does more than to make them: it sends something, or adds to a file."""
    definition = sources.node(step.code)
    return definition is not None and any(_acts(each) for each in ast.walk(definition))


def _acts(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr in _SENDS
    appends = (each.value for each in (*node.args, *(keyword.value for keyword in node.keywords)) if _is_text(each))
    return isinstance(node.func, ast.Name) and node.func.id == "open" and any(mode in _APPENDS for mode in appends)


def _is_text(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


#: Methods that tell somebody else something; what posts and sends otherwise may well only log in.
_SENDS = frozenset(("sendmail", "send_mail", "send_message", "delay", "apply_async", "send_task"))

_APPENDS = frozenset(("a", "ab", "at", "a+", "ab+"))


def _step(frame: FrameType, text: str, value: Any, place: Place) -> Step:
    node = ast.parse(text, mode="eval").body
    node.lineno = frame.f_code.co_firstlineno
    step = Step("use", node, (), frame.f_code)
    step.place, step.value, step.how = place, value, "call"
    return step


def _cached(code: CodeType, module: dict[str, Any]) -> Any:
    """Return what keeps the results of a function: under its own name, another of its module, or in a class there."""
    if code not in _known:
        classes = [value for value in list(module.values()) if isinstance(value, type)]
        held = (value for names in (module, *map(vars, classes)) for value in list(names.values()))
        _known[code] = next((each for each in held if type(each) is CACHED and _code_of(each) is code), None)
    return _known[code]


#: Of functions that have run what keeps their results.
_known: WeakKeyDictionary[CodeType, Any] = WeakKeyDictionary()


def _code_of(cached: Any) -> Any:
    return getattr(cached.__wrapped__, "__code__", None)


def _property(frame: FrameType) -> Property | None:
    """Return where the result of a function is kept that a cached property of a library calls."""
    caller = frame.f_back
    if caller is None or caller.f_code.co_name != "__get__":
        return None
    descriptor = caller.f_locals.get("self")
    owner = caller.f_locals.get("instance", caller.f_locals.get("obj"))
    own = attributes_of(descriptor)
    name = next((own[each] for each in ("attrname", "name", "__name__") if isinstance(own.get(each), str)), None)
    # One that keeps nothing in the object keeps what it has made nowhere that is known.
    kept = "cached" in type(descriptor).__name__.lower() and isinstance(getattr(owner, "__dict__", None), dict)
    return Property(owner, name, attribute=True) if kept and name is not None else None


def is_same_call(one: tuple[Step, list[Any]], other: tuple[Step, list[Any]]) -> bool:
    """Whether two calls are of one function, with the same arguments."""
    if one[0].value is not other[0].value:
        return False
    return all(same(mine, theirs) for mine, theirs in zip(one[1], other[1], strict=True))
