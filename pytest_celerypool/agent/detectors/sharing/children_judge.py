"""What one task of prefork missed of what the tasks of other children did."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors.code.flow import Step
from pytest_celerypool.agent.detectors.code.places import ALL, CACHED, Place, hashable, same, show
from pytest_celerypool.agent.detectors.code.standing import name_of
from pytest_celerypool.agent.detectors.sharing.changes import (
    EMPTY,
    OBJECT,
    QUEUES,
    SEMAPHORES,
    Change,
    Execution,
    fingerprint,
    items_of,
    key_of,
    text_of,
)
from pytest_celerypool.agent.meters import Run

if TYPE_CHECKING:
    from pytest_celerypool.agent.detectors.sharing.children import Children


class Judge:
    """Judges what one execution missed."""

    def __init__(self, children: Children, run: Run, execution: Execution, exc: BaseException | None) -> None:
        self._children, self._run, self._execution, self._exc = children, run, execution, exc
        self._written = {step.place.identity: step for step in execution.steps if step.kind == "write" and step.place}

    def judge(self) -> None:
        """Report what there is."""
        seen: set[Any] = set()
        for step in self._execution.steps:
            place = step.place
            if step.kind == "use":
                self._used(step)
            elif place is not None and place.identity not in seen:
                seen.add(place.identity)
                if step.kind == "read":
                    self._read(step, place)
                elif step.how in ("pop", "popleft", "popitem"):
                    self._taken(step, place)
        if isinstance(self._exc, KeyError) and self._exc.args and hashable(self._exc.args[0]):
            self._not_found(self._exc.args[0])

    def _not_found(self, key: Any) -> None:
        """A task failed because a key was missing that the code alone does not tell: look for it in what it reads."""
        steps = self._execution.steps
        if any(step.place is not None and step.place.key == key for step in steps):
            return  # :meth:`_read` has looked
        for step in steps:
            value = step.place.value() if step.kind == "read" and step.place is not None else None
            if not isinstance(value, dict) or key in value:
                continue
            others = self._children.others(id(value), key_of(key))
            change = next((each for each in reversed(others) if each.ended <= self._execution.began), None)
            if change is not None and change.after != "nothing":
                self._lacks(step, change, f"{show(key)} is not in {name_of(step)}")
                return

    def _read(self, step: Step, place: Place) -> None:
        others = self._children.others(id(place.owner), key_of(place.key))
        if not others or self._retried(step, place, others):
            return
        writes = [self._written.get(place.identity), self._written.get((id(place.owner), False, ALL))]
        write = writes[0] or writes[1]
        if write is not None and self._guards(step, write):
            self._guarded(step, place, others[-1])
            return
        change = next((each for each in reversed(others) if each.ended <= self._execution.began), None)
        if change is None:
            return
        if write is not None:
            self._counted(step, place, write, change)
        elif isinstance(place.owner, dict) or place.attribute:
            self._missed(step, place, change)

    def _retried(self, step: Step, place: Place, others: list[Change]) -> bool:
        """Tell of a task that goes on, as it was retried, with what its last attempt has left in another child."""
        if not self._counts_its_own(place):
            return False
        change = next((each for each in reversed(others) if each.id == self._run.id), None)
        held = self._execution.before.get((id(place.owner), key_of(place.key)))
        here = text_of(place.value()) if held is None else held[2]
        if change is None or here == change.after:
            return False
        self._children.tell(
            "cache-differs",
            self._run,
            step,
            change,
            f"{name_of(step)} was {here} as the task began in this child, and {change.after} where its last attempt "
            "ended: under prefork a retry may run in another process, which has its own copy of the module",
            "hand it on with the retry (self.request.retries, self.retry(kwargs=...)), or keep it in Redis",
        )
        return True

    def _counts_its_own(self, place: Place) -> bool:
        """Whether the task counts under a key of its own, and looks how far it is; what a cache lacks is made anew."""
        steps = [each for each in self._execution.steps if each.place and each.place.identity == place.identity]
        own = (*self._execution.given, self._run.id)
        counted = any(each.how == "+=" for each in steps) and any(each.tested for each in steps)
        return counted and not place.attribute and any(same(place.key, each) for each in own)

    def _guards(self, step: Step, write: Step) -> bool:
        """Whether a task looks only whether something is noted, and notes it, without a value to keep."""
        if step.how == "in":
            values = any(
                each.kind == "read" and each.how != "in" and each.place and each.place.identity == step.place.identity  # type: ignore[union-attr]
                for each in self._execution.steps
            )
            return write.how in ("add", "append", "=") and not values
        return step.tested and write.how == "=" and write.value is True

    def _missed(self, step: Step, place: Place, change: Change) -> None:
        """A task reads what another task wrote, in another child."""
        here = text_of(place.value())
        name, key = name_of(step), show(place.key)
        if here == "nothing":
            failed = isinstance(self._exc, KeyError | AttributeError) and place.key in self._exc.args
            if not failed and (step.path or step.how == "in" or step.tested) and self._exc is None:
                return
            missing = f"{key} is not in {name.partition('[')[0] if step.how == '' else name}"
        elif here == change.before and here != change.after and not step.path:
            missing = f"{name} is {here} here"
        else:
            return
        self._lacks(step, change, missing)

    def _lacks(self, step: Step, change: Change, missing: str) -> None:
        self._children.tell(
            "cache-differs",
            self._run,
            step,
            change,
            f"{missing}, though {change.task} has set it: that was in another process, and under prefork each has its "
            "own copy of the module",
            "keep what tasks hand to one another in Redis, the database or Django's cache, or pass it as an argument",
        )

    def _guarded(self, step: Step, place: Place, change: Change) -> None:
        """A task does something once, which is once in every child."""
        key = key_of(place.key)
        if (id(place.owner), key) in self._execution.before:
            before, after = self._execution.before[id(place.owner), key][2], text_of(place.value())
        else:
            known, now = self._execution.before[id(place.owner), ""][1][1], items_of(place.owner)[1]
            before = "nothing" if known is not None and place.key not in known else "there"
            after = "there" if now is not None and place.key in now else "nothing"
        if before == "nothing" != after and change.after != "nothing":
            self._children.tell(
                "state-per-child",
                self._run,
                step,
                change,
                f"{show(place.key)} was not noted in this child ({name_of(step)}), but in another: under prefork what "
                "is to be done once is done once in every child",
                "note it where all children see it: a unique key in the database, SET NX in Redis",
            )

    def _counted(self, step: Step, place: Place, write: Step, change: Change) -> None:
        """A task keeps a value from one execution to the next."""
        key = key_of(place.key)
        held = self._execution.before.get((id(place.owner), key))
        before = held[2] if held is not None else "nothing"
        # Statistics are rightly each child's own; what a task is refused by, if there is enough of it, is not.
        counts = write.how == "+=" or place.identity in write.sources
        refuses = counts and step.tested and any(name == "rest" for _, name in write.path)
        unknown = before in ("nothing", "None", "False", "True", OBJECT) or before.startswith(("{", "["))
        if not refuses and (write.path or write.how == "+=" or unknown):
            return
        own = self._children.own(id(place.owner), key)
        # What ended while the last execution here went on cannot be in what that wrote: it had looked before.
        differs = "and" if before == change.after else "but"
        if refuses or ((own is None or own.began < change.ended) and before != change.after):
            self._children.tell(
                "state-per-child",
                self._run,
                step,
                change,
                f"{name_of(step)} was {before} in this child, {differs} {change.after} in another that has written it: "
                "under prefork every child counts or limits for itself",
                "count where all children do: INCR in Redis, a sequence of the database, Celery's rate limits or a "
                "limiter that keeps its state in Redis",
            )

    def _taken(self, step: Step, place: Place) -> None:
        """A task takes from a container that is empty here."""
        others = self._children.others(id(place.owner), "")
        if not isinstance(self._exc, IndexError | KeyError):
            self._took_the_same(step, place, others)
            return
        change = next((each for each in others if int(each.after) > int(each.before)), None)
        if change is not None and len(place.owner) == 0:
            self._children.tell(
                "cache-differs",
                self._run,
                step,
                change,
                f"{name_of(step)} is empty here; what {change.task} put into it is in another child, and under "
                "prefork each has its own copy of the module",
                "hand it over through the broker: as the argument of a task, or in a list in Redis",
            )

    def _took_the_same(self, step: Step, place: Place, others: list[Change]) -> None:
        """A task takes from a container that every child has as it was at the fork, and nobody ever fills."""
        before = self._execution.before.get((id(place.owner), ""))
        if before is None or self._exc is not None or step.path:
            return
        lengths = str(before[1][0]), str(len(place.owner))
        change = next((each for each in others if (each.before, each.after) == lengths), None)
        own = self._children.of_all(id(place.owner))
        if change is None or lengths[0] == lengths[1] or any(int(each.after) > int(each.before) for each in own):
            return
        self._children.tell(
            "state-per-child",
            self._run,
            step,
            change,
            f"{name_of(step)}.{step.how}() has taken the same in two children ({lengths[1]} left in both): under "
            "prefork every child has all of it",
            "keep what each task takes one of where all children take it: a list in Redis, a table of the database",
        )

    def _used(self, step: Step) -> None:
        others = self._children.others(id(step.value), "")
        if isinstance(step.value, SEMAPHORES):
            self._limited(step, others)
        elif isinstance(step.value, threading.Event):
            change = next((each for each in others if each.after == "set"), None)
            if change is not None and step.how in ("wait", "is_set") and not step.value.is_set():
                self._unheard(step, change, "was set")
        elif isinstance(step.value, QUEUES):
            change = next((each for each in others if int(each.after) > int(each.before)), None)
            if change is not None and isinstance(self._exc, queue.Empty) and step.how.startswith("get"):
                self._unheard(step, change, "was filled")
        elif isinstance(step.value, CACHED):
            self._outdated(step, others)
        elif step.how == "next":
            after = fingerprint(step.value)
            change = next((each for each in others if each.after == after), None)
            if change is not None and after != self._execution.uses.get(id(step.value), (step, after))[1]:
                self._children.tell(
                    "state-per-child",
                    self._run,
                    step,
                    change,
                    f"{name_of(step)} has handed out the same value in two children ({after} now): under prefork every "
                    "child counts for itself",
                    "take numbers from where all children do (INCR in Redis, a sequence of the database), or use "
                    "uuid.uuid4()",
                )

    def _outdated(self, step: Step, others: list[Change]) -> None:
        """A task got from a cache what was there before a task in another child has cleared its own."""
        cleared = next(
            (each for each in reversed(others) if each.after == EMPTY and each.ended <= self._execution.began), None
        )
        before = self._execution.uses[id(step.value)][1]
        clears = any(each.value is step.value and each.how == "cache_clear" for each in self._execution.steps)
        if cleared is None or clears or step.how != "call" or step.path or self._exc is not None:
            return
        own = self._children.own(id(step.value), "")
        # Nothing was missing, so what it got is at least as old as what was kept before.
        if before != EMPTY and before == fingerprint(step.value) and (own is None or own.ended < cleared.ended):
            self._children.tell(
                "cache-differs",
                self._run,
                step,
                cleared,
                f"{name_of(step)} answers from a cache that {cleared.task} has cleared: that was in another process, "
                "and under prefork each has a cache of its own",
                "keep what must be up to date in Redis or Django's cache, where one can clear it for all; or give what "
                "is kept an age",
            )

    def _limited(self, step: Step, others: list[Change]) -> None:
        change = next((each for each in others if each.ended > self._execution.began), None)
        if change is not None:
            self._children.tell(
                "state-per-child",
                self._run,
                step,
                change,
                f"{name_of(step)} was used by two children at once: under prefork each has a semaphore of its own, so "
                "it limits nothing",
                "limit through Redis (a lock or a counter there), by a queue with a worker of its own, or by the "
                "task's rate_limit",
            )

    def _unheard(self, step: Step, change: Change, what: str) -> None:
        self._children.tell(
            "cache-differs",
            self._run,
            step,
            change,
            f"{name_of(step)} {what} by {change.task}, but in another child: under prefork each has its own, and this "
            "task waits for nothing",
            "let tasks wait for one another through the result backend, Redis or a chain",
        )
