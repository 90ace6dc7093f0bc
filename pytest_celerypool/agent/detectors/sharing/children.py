"""State of the user's own modules that prefork's children do not share, though the tasks behave as if they did.

Every child has a copy of each module of its own. A child writes down what its tasks changed of it, as lines of a file
in the worker's folder, and reads what the others wrote: nothing is written unless a task changed something. An object
that was there before the fork has the same address in every child, so that is what they call it by.
"""

from __future__ import annotations

import os
import time
import types
from collections import Counter
from typing import Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.calls import flow_of_task
from pytest_celerypool.agent.detectors.code.flow import Flow, Step
from pytest_celerypool.agent.detectors.code.places import ABSENT, ALL, Place
from pytest_celerypool.agent.detectors.code.standing import Reader, name_of
from pytest_celerypool.agent.detectors.notes import Notes
from pytest_celerypool.agent.detectors.sharing.before_fork import Parent
from pytest_celerypool.agent.detectors.sharing.changes import (
    SEMAPHORES,
    Change,
    Execution,
    fingerprint,
    items_of,
    key_of,
    text_of,
)
from pytest_celerypool.agent.detectors.sharing.children_judge import Judge
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.watch import Watch

#: So many executions of each task are looked at in each child.
MOST_EXECUTIONS = 24


class Children(Detector):
    """Compares what the children of prefork know."""

    kinds = (
        Kind("cache-differs", "fail", "a task needs what another one left in a child that is not its own"),
        Kind("state-per-child", "warn", "a check, count or limit that every child keeps for itself"),
    )

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where slots are processes."""
        return watch.pool.forks

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self.reader = Reader(watch.frames)
        self._notes = Notes(watch.folder, "sharing")
        self._changes: dict[tuple[int, str], list[Change]] = {}
        self._looked: Counter[str] = Counter()
        self._reported: Counter[tuple[str, str, str]] = Counter()
        self._running: dict[int, Execution] = {}
        self._parent = Parent(self)

    def begin(self) -> None:
        """The application is imported."""
        self._parent.begin()

    def ready(self, controller: Any) -> None:
        """The parent consumes, its children run."""
        self._parent.ready(controller)

    # -- each task

    def started(self, run: Run) -> None:
        """Note what the places hold that the task may change."""
        name = run.task.name
        request = run.task.request_stack.top
        args, kwargs = request.args or (), request.kwargs or {}
        flow = flow_of_task(self.reader, run.task, args, kwargs)
        self._looked[name] += 1
        unshared = self._looked[name] == 1 and (flow is None or not _shares(flow))
        if unshared or self._looked[name] > MOST_EXECUTIONS:
            self.pass_over(name, "started", "ended")
            return
        if flow is None:
            return
        execution = self._running[id(run)] = Execution(flow, (*args, *kwargs.values()))
        for step in flow.steps:
            if step.kind == "write" and step.place is not None:
                self._note(execution, step, step.place)
            elif step.kind == "use" and fingerprint(step.value) is not None:
                execution.uses[id(step.value)] = step, fingerprint(step.value) or ""

    @staticmethod
    def _note(execution: Execution, step: Step, place: Place) -> None:
        owner = place.owner
        if place.key is ALL:
            held = items_of(owner)
            execution.before[id(owner), ""] = step, held, ""
        else:
            execution.before[id(owner), key_of(place.key)] = step, None, text_of(place.value())

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Write down what the task changed, and judge what it missed."""
        execution = self._running.pop(id(run), None)
        if execution is not None:
            self.catch_up()
            Judge(self, run, execution, exc).judge()
            self.publish(self._changed(run, execution))

    def _changed(self, run: Run, execution: Execution) -> list[Change]:
        now = time.monotonic()
        about = (os.getpid(), run.task.name, run.id)
        found = []
        for (owner, key), (step, held, before) in execution.before.items():
            line = self.reader.place(step)
            place: Place = step.place  # type: ignore[assignment]
            if key:
                after = text_of(place.value())
                if after != before:
                    found.append(Change(*about, owner, key, before, after, execution.began, now, line))
            else:
                found += [
                    Change(*about, owner, key_of(each), "nothing", "there", execution.began, now, line)
                    for each in _new_items(held[1], place.owner)
                ]
                if len(place.owner) != held[0]:
                    lengths = str(held[0]), str(len(place.owner))
                    found.append(Change(*about, owner, "", *lengths, execution.began, now, line))
        for owner, (step, before) in execution.uses.items():
            after = fingerprint(step.value) or ""
            if after != before or isinstance(step.value, SEMAPHORES):
                line = self.reader.place(step)
                found.append(Change(*about, owner, "", before, after, execution.began, now, line))
        return found

    # -- what other children wrote

    def publish(self, changes: list[Change]) -> None:
        """Write down what was changed in this process."""
        if changes:
            self._notes.add(changes)

    def forked(self) -> None:
        """Go on in a child."""
        self._running, self._looked = {}, Counter()
        self._notes.forked()

    def remove(self) -> None:
        """End, and close the file."""
        self._parent.remove()
        self._notes.close()
        super().remove()

    def catch_up(self) -> None:
        """Read what was written since the last time."""
        for note in self._notes.news():
            change = Change(*note)
            self._changes.setdefault((change.owner, change.key), []).append(change)

    def others(self, owner: int, key: str) -> list[Change]:
        """Return what tasks of other processes changed of a place, in the order in which they did."""
        pid = os.getpid()
        return [change for change in self._changes.get((owner, key), ()) if change.pid != pid]

    def of_owner(self, owner: int) -> list[Change]:
        """Return what tasks of other processes changed of a container."""
        return [change for where, key in self._changes if where == owner for change in self.others(where, key)]

    def of_all(self, owner: int) -> list[Change]:
        """Return what tasks of any process changed of the length of a container."""
        return self._changes.get((owner, ""), [])

    def own(self, owner: int, key: str) -> Change | None:
        """Return what a task of this process changed last of a place."""
        pid = os.getpid()
        return next((each for each in reversed(self._changes.get((owner, key), [])) if each.pid == pid), None)

    def tell(self, kind: str, run: Run | None, step: Step, change: Change, message: str, remedy: str) -> None:
        """Report what a task missed.

        :param step: what it did, where it would have needed it.
        :param change: what was changed elsewhere.
        """
        name = name_of(step)
        task = change.task if run is None else run.task.name
        key = (kind, task, name)
        self._reported[key] += 1
        if self._reported[key] > MOST_EXECUTIONS:
            return
        ago = time.monotonic() - change.ended
        self.watch.report(
            kind,
            run,
            message,
            [
                self.reader.place(step),
                f"process {os.getpid()} runs {'a control command' if run is None else f'{task} ({run.id})'}",
                f"process {change.pid} ran {change.task} {f'({change.id}), ' if change.id else ''}"
                f"ended {ago:.3f} s ago: "
                f"{change.before} became {change.after}",
                change.line,
            ],
            remedy,
            key=f"{name} {self.reader.frames.shown(step.code.co_filename)}",
            task=task,
            others=[Run(change.id, None, (change.id, change.task, 0, change.pid, None))] if change.id else (),
        )

    def line(self, step: Step) -> str:
        """Return the line of a step."""
        return self.reader.place(step)


def _shares(flow: Flow) -> bool:
    """Whether a task reads or writes anything that other tasks may."""
    return any(
        (step.kind == "use" and fingerprint(step.value) is not None)
        or (step.place is not None and not isinstance(_value(step.place), types.FunctionType | type | types.ModuleType))
        for step in flow.steps
    )


def _value(place: Place) -> Any:
    return place.value() if place.key is not ALL else ABSENT


def _new_items(items: Any, owner: Any) -> set[Any]:
    now = items_of(owner)[1]
    return set() if items is None or now is None else now - items
