"""What a function is that changes state of a process, and which piece of state each call of it sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from pytest_celerypool.agent.detectors.state.changes import Subject, text_of

Grade = Literal["shared", "strict", "read", "own"]
Scope = Literal["process", "thread", "slot"]


class Item(NamedTuple):
    """One piece of state that a call sets, and how it is read."""

    subject: Subject
    read: Callable[[], Any]


class Mutator(NamedTuple):
    """A function that changes state.

    :ivar items: tells from the positional and named arguments of a call what it may set.
    :ivar result: whether what the call returns is the old value, and its first argument the new one.
    :ivar direct: whether only a call by the user's own line counts: helpers of the standard library do it by the way.
    """

    owner: Any
    name: str
    items: Callable[..., Iterable[Item]]
    result: bool = False
    direct: bool = False


def told(subject: Subject, old: Any, new: Any) -> list[Item]:
    """Return ``items`` of a call that sets what nobody can ask for: what is read before it, and after it."""
    values = iter((old, new))
    return [Item(subject, lambda: next(values))]


def constant(
    label: str,
    read: Callable[[], Any],
    remedy: str,
    grade: Grade = "shared",
    scope: Scope = "process",
    show: Callable[[Any], str] = text_of,
) -> Callable[..., list[Item]]:
    """Return ``items`` of a function that always sets the same subject."""
    item = Item(Subject(label, label, remedy, scope, grade, show), read)
    return lambda *_, **__: [item]
