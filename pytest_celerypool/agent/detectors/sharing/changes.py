"""What a task of prefork changed of its child's copy of the user's modules, as other children can compare it."""

from __future__ import annotations

import csv
import itertools
import operator
import queue
import threading
import time
import types
from typing import Any, NamedTuple

from pytest_celerypool.agent.detectors.code.flow import Flow, Step
from pytest_celerypool.agent.detectors.code.places import ABSENT, CACHED, PLAIN, show

#: Items of a container that are compared, and characters of the text of a generator.
MOST_ITEMS = 200

#: Keys, values and items of a container whose text is compared.
_MOST_SHOWN = 20

#: The text of what is not compared.
OBJECT = "object"

SEMAPHORES = (threading.Semaphore,)
QUEUES = (queue.Queue, queue.SimpleQueue)

#: Iterators of sequences, which know how much they have left, and what ``csv.reader`` makes.
_SEQUENCES: tuple[Any, ...] = ([], (), range(1), "", b"", {}, {}.values(), {}.items())
ITERATORS = tuple(type(iter(each)) for each in _SEQUENCES)
_READER: Any = type(csv.reader(()))

#: How the state of what ``functools.lru_cache`` makes is told once it was cleared.
EMPTY = "cleared"


class Change(NamedTuple):
    """What a task of some child changed.

    :ivar owner: the address of the object, and the key as text (``""`` for all of it).
    :ivar before: what was there, as text; so is `after`.
    :ivar began: monotonic seconds at which the task began; `ended` at which it ended.
    """

    pid: int
    task: str
    id: str
    owner: int
    key: str
    before: str
    after: str
    began: float
    ended: float
    line: str


class Execution:
    """What is known of one execution: its steps, and what the places that it may change held when it began.

    :ivar given: its arguments.
    """

    __slots__ = ("before", "began", "given", "steps", "uses")

    def __init__(self, flow: Flow, given: tuple[Any, ...]) -> None:
        self.began = time.monotonic()
        self.given = given
        self.steps = flow.steps
        self.before: dict[tuple[int, str], tuple[Step, Any, str]] = {}
        self.uses: dict[int, tuple[Step, str]] = {}


def fingerprint(value: Any) -> str | None:
    """Return the state of an object that tasks hand things over with, ``None`` of any other."""
    if isinstance(value, threading.Event):
        return "set" if value.is_set() else "not set"
    if isinstance(value, QUEUES):
        return str(value.qsize())
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, types.GeneratorType) and value.gi_frame is not None:
        names = {name: each for name, each in value.gi_frame.f_locals.items() if isinstance(each, PLAIN)}
        return repr(sorted(names.items()))[:MOST_ITEMS]
    if isinstance(value, ITERATORS):
        return f"{operator.length_hint(value)} left"
    if isinstance(value, _READER):
        return f"line {value.line_num}"
    if isinstance(value, CACHED):
        # What is only looked up changes nothing.
        return f"filled {value.cache_info().misses} times" if value.cache_info().misses else EMPTY
    return "free" if isinstance(value, SEMAPHORES) else None


def key_of(value: Any) -> str:
    """Return a key or an item as it is told from others, in all children: of a long text, its hash.

    Their texts would be kept, written and read by all children, as long as they are. A hash is the same in all of them,
    since they are forked from one process.
    """
    if isinstance(value, str | bytes) and len(value) > MOST_ITEMS:
        return f"{type(value).__name__} of {len(value)}: {hash(value):x}"
    return repr(value)


def text_of(value: Any) -> str:
    """Return a value as it is compared between processes."""
    if value is ABSENT:
        return "nothing"
    if isinstance(value, (*PLAIN, tuple)):
        return show(value)
    # A small one of plain values, such as settings that a task replaces.
    items = (*value, *value.values()) if type(value) is dict else value if type(value) is list else None
    if items is None or len(items) > _MOST_SHOWN or not all(isinstance(each, PLAIN) for each in items):
        return OBJECT
    return show(value, MOST_ITEMS)


def items_of(owner: Any) -> tuple[int, Any]:
    """Return how many items a container has, and which, if they are few and plain."""
    size = len(owner)
    small = isinstance(owner, dict | set | list) and size <= MOST_ITEMS
    return size, {each for each in owner if isinstance(each, PLAIN)} if small else None
