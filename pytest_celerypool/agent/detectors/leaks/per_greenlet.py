"""What a program keeps in a ``threading.local``, and under a green pool once for each task: every one has a greenlet.

What is made because an attribute of one is missing is made anew by each task. What of that is noted in a list too, to
be closed one day, stays there. What is kept under the name of a thread is
:mod:`~pytest_celerypool.agent.detectors.leaks.by_thread`'s.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.places import Sources
from pytest_celerypool.agent.detectors.holders import Reached, additions, uses, walk
from pytest_celerypool.agent.detectors.leaks.by_thread import KEPT
from pytest_celerypool.agent.detectors.leaks.memory import is_bounded
from pytest_celerypool.agent.detectors.state.sources import targets
from pytest_celerypool.agent.reach import FILLS, Name, Reach, reach

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_KIND = KEPT.name
_REBUILT = "rebuilt-per-greenlet"

#: Modules of the standard library whose objects are dear to make; those of others are cheap.
_DEAR = {"ftplib", "http", "imaplib", "multiprocessing", "smtplib", "socket", "sqlite3", "ssl", "subprocess"}


class Entry(NamedTuple):
    """What a task has left in a list."""

    run: str
    thing: Any


class Kept(NamedTuple):
    """What a task may note for its thread.

    :ivar lists: where.
    :ivar locals: the objects of ``threading.local`` that it uses.
    :ivar missed: attributes of such objects that it makes when they are missing, and the line that does.
    """

    reach: Reach
    lists: list[Name]
    locals: list[Any]
    missed: dict[tuple[Name, str], str]


class PerGreenlet(Detector):
    """Looks after a task whether a container holds what belongs to its greenlet, which is not used again."""

    kinds = (
        KEPT,
        Kind(_REBUILT, "warn", "each task makes anew what each thread was to make once", 3, "executions"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._kept: dict[Any, Kept | None] = {}
        self._entries: dict[tuple[str, Name], list[Entry]] = {}
        self._told: set[tuple[str, Name]] = set()
        self._made: Counter[tuple[str, Name, str]] = Counter()
        self._sources = Sources()

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether tasks are greenlets."""
        return watch.pool.green

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look what the task has left."""
        function = run.task.run
        try:
            kept = self._kept[function]
        except KeyError:
            kept = self._kept[function] = self._find(function)
        if kept is None:
            self.pass_over(run.task.name, "ended")
            return
        left = list(self._left(kept))
        for name, thing in left:
            self._note(run, kept, name, thing)
        for (name, attribute), line in kept.missed.items() if not left else ():
            if is_dear(vars(kept.reach.value(name)).get(attribute)):
                self._note_made(run, kept, name, attribute, line)

    def _find(self, function: Any) -> Kept | None:
        """Return what a task may keep for its thread; ``None`` if nothing."""
        found = reach(function, self.watch.frames.is_user)
        filled = [name for name, what in found.changes.items() if what & FILLS]
        lists = [name for name in filled if isinstance(found.value(name), list)]
        held = [value for name in found.reads if issubclass(type(value := found.value(name)), threading.local)]
        missed = self._missed(found)
        return Kept(found, lists, held, missed) if missed or (lists and held) else None

    def _missed(self, found: Reach) -> dict[tuple[Name, str], str]:
        """Return the attributes of thread locals that a task sets where they are missing, and the line."""
        missed = {}
        for function in found.functions:
            code = function.__code__
            for target in _set_in_branches(self._sources.node(code)):
                name = Name(id(function.__globals__), target.value.id)  # type: ignore[attr-defined]
                if issubclass(type(found.value(name)), threading.local):
                    place = self.watch.frames.place_of(code.co_filename, target.lineno, code.co_name)
                    missed[name, target.attr] = place
        return missed

    def _left(self, kept: Kept) -> Iterator[tuple[Name, Any]]:
        """Yield what lists hold of the current greenlet."""
        own = [value for each in kept.locals for value in vars(each).values()]
        for name in kept.lists:
            value = kept.reach.value(name)
            # What was put there last is at the end.
            for one in own if isinstance(value, list) else ():
                if any(one is other for other in value[-8:]):
                    yield name, one

    def _note(self, run: Run, kept: Kept, name: Name, thing: Any) -> None:
        where = (run.task.name, name)
        entries = self._entries.setdefault(where, [])
        value = kept.reach.value(name)
        there = {id(each) for each in value}
        entries[:] = [each for each in entries if id(each.thing) in there and each.thing is not thing]
        entries.append(Entry(run.id, thing))
        if len(entries) >= self.watch.limit(_KIND) and where not in self._told:
            self._told.add(where)
            self._entries.pop(where)
            reached = next(walk(self.watch.frames, lambda each: each is value), None)
            if reached is not None and not is_bounded(reached):
                self._report(run, reached, entries)

    def _note_made(self, run: Run, kept: Kept, name: Name, attribute: str, line: str) -> None:
        where = (run.task.name, name, attribute)
        self._made[where] += 1
        if self._made[where] == self.watch.limit(_REBUILT):
            value, pool = vars(kept.reach.value(name))[attribute], self.watch.pool.name
            self.watch.report(
                _REBUILT,
                run,
                f"each execution makes its own {type(value).__name__} for {name.name}.{attribute}, which a thread was "
                f"to make once: under {pool} every task is a greenlet of its own, and finds a threading.local empty",
                [line, f"made by {self._made[where]} executions in succession, found there by none of them"],
                "keep it once for the process, or take it from a pool with a bound",
                key=f"{name.name}.{attribute}",
            )

    def _report(self, run: Run, reached: Reached, entries: list[Entry]) -> None:
        pool, frames, name = self.watch.pool.name, self.watch.frames, reached.path
        lines = [*additions(frames, reached), *uses(frames, reached, run.task.run)]
        self.watch.report(
            _KIND,
            run,
            f"each execution leaves in {name} what is meant to be one for each thread: under {pool} every task is a "
            f"greenlet of its own, so nothing of it is used again, and {name} grows until the process is killed",
            [
                *(dict.fromkeys(lines) or ["(no line of the task's own mentions it)"]),
                f"{name} holds {len(reached.value)}, one for each of the executions "
                + ", ".join(each.run for each in entries),
            ],
            "keep it once for the process, take it from a pool with a bound, or close it and take it out at the end of "
            "the task",
            key=name,
        )


def is_dear(value: Any) -> bool:
    """Whether an object is worth to be kept: of a class of the project, or of a library, that has an ``__init__``."""
    cls = type(value)
    library = cls.__module__.partition(".")[0].lstrip("_")
    return library in _DEAR or (library not in sys.stdlib_module_names and cls.__init__ is not object.__init__)


def _set_in_branches(function: ast.AST | None) -> Iterator[ast.Attribute]:
    """Yield the attributes of names that a function sets in an ``if`` or ``except``."""
    for branch in ast.walk(function) if function is not None else ():
        if isinstance(branch, ast.If | ast.ExceptHandler):
            for target in (each for node in ast.walk(branch) for each in targets(node)):
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                    yield target
