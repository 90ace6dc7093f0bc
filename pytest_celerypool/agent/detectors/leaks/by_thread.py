"""Mappings in which a program keeps something for each thread: under a green pool every task is a thread of its own.

Which threads there were is noted as tasks end: the number, the name and the object of each. Now and then the user's
modules are searched for a mapping, or a cached function, that still has those of tasks whose greenlets are gone.
"""

from __future__ import annotations

import gc
import linecache
import re
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.places import CACHED
from pytest_celerypool.agent.detectors.holders import Reached, additions, user_modules, uses, walk
from pytest_celerypool.agent.detectors.leaks.memory import is_bounded

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

KEPT = Kind(
    "kept-per-greenlet",
    "fail",
    "each task leaves in a container what is meant to be one for each thread",
    3,
    "executions",
)

#: What a project mentions that asks which thread it is in.
_ASKS = re.compile(r"current_thread|currentThread|get_ident|get_native_id|getcurrent")

#: After so many executions of a task the modules are searched; then each time that there are twice as many.
_SEARCHES = frozenset({4, 5, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1024})

#: Entries of one mapping that are looked at, those that were made last.
_ENTRIES = 500

#: Seconds after which nothing of a greenlet that has ended is kept by its library: the hub drops that a little later.
_SETTLED_S, _SETTLED_AT_END_S = 0.3, 0.02

#: Greenlets that are remembered.
_MOST = 2000


class Owner(NamedTuple):
    """The id of an execution, its task and its greenlet, and when it ended in monotonic seconds."""

    id: str
    task: Any
    greenlet: weakref.ref[Any]
    ended: float

    def is_gone(self, settled_s: float) -> bool:
        """Whether the greenlet has ended, and at least so many seconds ago."""
        greenlet = self.greenlet()
        return (greenlet is None or greenlet.dead) and time.monotonic() - self.ended >= settled_s


class ByThread(Detector):
    """Looks for what is kept under the names of greenlets that are gone."""

    kinds = (KEPT,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        #: The files that were looked through for what asks for a thread.
        self._files: set[str] = set()
        self._executions: Counter[str] = Counter()
        #: The execution, and its greenlet, to which a number, a name or the identity of an object belongs.
        self._owners: dict[Any, Owner] = {}
        self._told: set[str] = set()
        self._settled_s = _SETTLED_S

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether tasks are greenlets."""
        return watch.pool.green

    def begin(self) -> None:
        """Rest in a project that never asks which thread it is in."""
        self.rest("ended")
        self.imported()

    def imported(self) -> None:
        """Look through the user's files that are new."""
        files = {str(module.__file__) for module in user_modules(self.watch.frames)} - self._files
        self._files |= files
        if any(_ASKS.search(line) for file in files for line in linecache.getlines(file)):
            self.listen("ended")

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Note who ran, and search now and then."""
        greenlet = self.watch.recorder.key()
        owner = Owner(run.id, run.task, weakref.ref(greenlet), time.monotonic())
        self._owners.update((key, owner) for key in _names_of_thread(greenlet))
        while len(self._owners) > _MOST:
            del self._owners[next(iter(self._owners))]
        self._executions[run.task.name] += 1
        if self._executions[run.task.name] in _SEARCHES:
            self._search(run)

    def stopping(self) -> None:
        """Search for the last time: the hub has had its turn since the last task."""
        self._settled_s = _SETTLED_AT_END_S
        if self._owners:
            self._search(None)

    def _search(self, run: Run | None) -> None:
        """Report mappings that have enough of what is gone.

        :param run: the task that ends, ``None`` if the worker does.
        """
        limit = int(self.watch.limit(KEPT.name))
        for reached in walk(self.watch.frames, lambda value: len(self._gone(value)) >= limit):
            if reached.path not in self._told and not is_bounded(reached):
                self._told.add(reached.path)
                self._report(run, reached, self._gone(reached.value))

    def _gone(self, value: Any) -> list[Owner]:
        """Return the executions whose greenlets are gone and which a container still has an entry for."""
        mapping = _mapping_of(value)
        found: dict[str, Owner] = {}
        for key in islice(reversed(mapping), _ENTRIES) if mapping else ():
            for part in key if type(key) is tuple else (key,):
                owner, settled_s = self._owner_of(part), self._settled_s if isinstance(part, weakref.ref) else 0.0
                if owner is not None and owner.is_gone(settled_s):
                    found.setdefault(owner.id, owner)
        return list(found.values())

    def _owner_of(self, key: Any) -> Owner | None:
        if type(key) in (int, str):
            return self._owners.get(key)
        thing = key() if isinstance(key, weakref.ref) else key
        return self._owners.get(("object", id(thing)))

    def _report(self, run: Run | None, reached: Reached, gone: list[Owner]) -> None:
        pool, frames = self.watch.pool.name, self.watch.frames
        newest = run or gone[0]
        reached = reached._replace(path=reached.path.removesuffix(".data"))  # of a weak mapping
        lines = [*additions(frames, reached), *uses(frames, reached, newest.task.run)]
        self.watch.report(
            KEPT.name,
            run,
            f"each execution leaves in {reached.path} what is meant to be one for each thread: under {pool} every task "
            f"is a greenlet of its own, so nothing of it is used again, and {reached.path} grows until the process is "
            "killed",
            [
                *(dict.fromkeys(lines) or ["(no line of the task's own mentions it)"]),
                f"{reached.path} has entries for {len(gone)} greenlets that are gone, those of the executions "
                + ", ".join(each.id for each in gone[:4]),
            ],
            "keep it once for the process, take it from a pool with a bound, or close it and take it out at the end of "
            "the task",
            key=reached.path,
            task=newest.task.name,
        )


def _names_of_thread(greenlet: Any) -> Iterator[Any]:
    """Yield what a program may call the current greenlet; no object of a thread is made for it."""
    ident = threading.get_ident()
    yield ident
    yield "object", id(greenlet)
    for thread in (threading._active.get(ident), _active_of_eventlet().get(ident)):  # type: ignore[attr-defined]
        if thread is not None:
            yield thread.name
            yield "object", id(thread)


def _active_of_eventlet() -> Mapping[int, Any]:
    """Return the objects that ``eventlet.green.threading.current_thread`` has handed out to greenlets that live."""
    green = sys.modules.get("eventlet.green.threading")
    return getattr(vars(green).get("__threadlocal"), "active", {}) if green is not None else {}


def _mapping_of(value: Any) -> dict[Any, Any] | None:
    """Return the mapping that something is, or has inside; ``None`` if it has none."""
    if type(value) is CACHED:
        return next((each for each in gc.get_referents(value) if type(each) is dict and each is not vars(value)), None)
    return value if issubclass(type(value), dict) else None
