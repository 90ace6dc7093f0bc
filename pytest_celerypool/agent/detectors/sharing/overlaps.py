"""Tasks that overlap in one process and use the same global or attribute as if each had it alone.

A task that may write such a place is looked at while another one runs beside it, from a native thread, a few times: not
while it runs alone, and not any more once its kind of task has been looked at often enough. What is reported was seen
at one moment: where each task stood, what the place held, and what each of them must do from there on.
"""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.calls import flow_of_task
from pytest_celerypool.agent.detectors.code.flow import Step
from pytest_celerypool.agent.detectors.code.places import (
    ABSENT,
    FRESH,
    PLAIN,
    UNKNOWN,
    Place,
    differ,
    same,
    show,
)
from pytest_celerypool.agent.detectors.code.standing import (
    BEFORE,
    Identity,
    Reader,
    Standing,
    frames_of,
    name_of,
    noted_at,
)
from pytest_celerypool.agent.detectors.sharing.cached import Kept, acts, calls_in, is_same_call
from pytest_celerypool.agent.detectors.sharing.lookout import Lookout
from pytest_celerypool.agent.detectors.state.changes import cpu_of
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.receivers import connect, receivers_of
from pytest_celerypool.agent.watch import Watch

#: Looks at tasks of one name, and how many tasks are looked at at once.
MOST_LOOKS = 300
MOST_AT_ONCE = 6

#: Tasks of one name that the same is reported of, so that each test that it strikes hears of it.
MOST_REPORTS = 50

#: Seconds between looks: the first, and the longest.
FIRST_WAIT_S = 0.002
LONGEST_WAIT_S = 0.064

#: Values of which two are as good as one.
_CHEAP = (*PLAIN, list, dict, set, tuple)


class Neighbour:
    """A task that may write what others share.

    :ivar writes: the places that it may write, known when it overlaps with another.
    :ivar begun: what receivers of ``task_prerun`` have written for it, by place.
    :ivar beside: the tasks that have overlapped with it.
    """

    __slots__ = ("begun", "beside", "request", "run", "seen", "writes")

    def __init__(self, run: Run, begun: dict[Identity, Any]) -> None:
        self.run = run
        self.begun = begun
        self.request: Any = run.task.request_stack.top
        self.writes: frozenset[Identity] | None = None
        self.beside: list[Neighbour] = []
        self.seen: tuple[tuple[int, int, float], dict[Identity, Any]] | None = None


class Sharing(Detector):
    """Watches tasks that overlap in one process."""

    kinds = (
        Kind("lost-update", "fail", "a task goes on with what another wrote over its own value, or overwrites it"),
        Kind("done-twice", "fail", "two tasks passed the same check before either had noted that it did"),
        Kind("built-twice", "warn", "two tasks built what was to be there once"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._reader = Reader(watch.frames)
        #: By task, of those that may write what others share: what receivers of ``task_prerun`` write.
        self._begins: dict[str, list[Step]] = {}
        self._looked: Counter[str] = Counter()
        self._alive: dict[int, Neighbour] = {}
        self._lookout = Lookout(self, self._look_on)
        self._wait_s = FIRST_WAIT_S
        self._reported: dict[tuple[str, str, str], set[str]] = {}
        self._suspects: list[tuple[Place, Step, Step, Neighbour, list[str]]] = []
        self._deafen: Callable[[], None] = lambda: None
        self.rest("ended")

    def begin(self) -> None:
        """Hear of tasks once more, behind the project's own receivers of ``task_prerun``, if it has any."""
        from celery.signals import task_prerun

        if receivers_of(task_prerun, self.watch.frames):
            told = self.watch.guarded(self, self._received)
            self._deafen = connect((task_prerun, lambda **_: told()))

    def _received(self) -> None:
        """Note what the receivers have written for a task."""
        neighbour = self._alive.get(id(self.watch.current()))
        if neighbour is not None:
            neighbour.begun = self._begun(self._begins[neighbour.run.task.name])

    @staticmethod
    def _begun(begins: list[Step]) -> dict[Identity, Any]:
        return {step.place.identity: step.place.value() for step in begins}  # type: ignore[union-attr]

    # -- what runs for every task

    def started(self, run: Run) -> None:
        """Remember a task that may write what others share, and look if there is another."""
        task = run.task
        if task.name not in self._begins:
            if not self._may_write(task):
                self.pass_over(task.name, "started", "ended")
                return
            self._begins[task.name] = self._reader.steps_of_prerun(task)
            self.listen("ended")
        alive = self._alive
        neighbour = Neighbour(run, self._begun(self._begins[task.name]))
        if alive and self._looked[task.name] < MOST_LOOKS:
            for other in list(alive.values())[-MOST_AT_ONCE:]:
                other.beside.append(neighbour)
                neighbour.beside.append(other)
            alive[id(run)] = neighbour
            self._wait_s = FIRST_WAIT_S
            self._lookout.begin(FIRST_WAIT_S)
        else:
            alive[id(run)] = neighbour

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Forget a task; what was suspected to be built twice is there by now."""
        neighbour = self._alive.pop(id(run), None)
        if neighbour is not None:
            neighbour.beside = []  # else each would keep all before it
            if self._suspects:
                self._judge_suspects()

    def forked(self) -> None:
        """Go on in a child, where nothing runs yet."""
        self._alive, self._suspects, self._lookout = {}, [], Lookout(self, self._look_on)

    def remove(self) -> None:
        """End; the thread ends when it finds nothing to look at."""
        self._alive = {}
        self._deafen()
        super().remove()

    # -- what a task may write

    def _may_write(self, task: Any) -> bool:
        flow = flow_of_task(self._reader, task)
        if flow is None:
            return False
        steps = [*flow.steps, *self._reader.steps_of_hooks(task, BEFORE)]
        return flow.unknown_writes > 0 or any(step.kind == "write" or step.how == "call" for step in steps)

    def _writes(self, neighbour: Neighbour) -> frozenset[Identity]:
        if neighbour.writes is None:
            request = neighbour.request
            flow = flow_of_task(self._reader, neighbour.run.task, request.args or (), request.kwargs or {})
            steps = [
                *(flow.steps if flow is not None else ()),
                *self._reader.steps_of_hooks(neighbour.run.task, BEFORE),
            ]
            neighbour.writes = frozenset(
                step.place.identity for step in steps if step.kind == "write" and step.place is not None
            )
        return neighbour.writes

    # -- looking

    def _look_on(self) -> float | None:
        """Look as long as tasks overlap; returns the seconds until the next look."""
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        self._look()
        return self._wait_s if len(self._alive) > 1 else None

    def _look(self) -> None:
        standings = []
        chosen = [each for each in list(self._alive.values()) if self._looked[each.run.task.name] < MOST_LOOKS]
        by_run = {id(each.run): each for each in chosen[-MOST_AT_ONCE:]}
        runs = [each.run for each in by_run.values()]
        for run, frame in frames_of(self.watch.recorder.running, runs):
            self._looked[run.task.name] += 1
            neighbour = by_run[id(run)]
            frames, request = self._reader.user_frames(frame), neighbour.request
            given = (run.id, list(request.args or ()), dict(request.kwargs or {}))
            standings.append((neighbour, Standing(run, self._reader, frames, given)))
        self._compare_calls(standings)
        standings = [each for each in standings if each[1].known]
        for neighbour, standing in standings:
            others = [(each, other) for each, other in standings if each is not neighbour]
            self._compare(neighbour, standing, others)
            self._alone(neighbour, standing)

    def _compare_calls(self, standings: list[tuple[Neighbour, Standing]]) -> None:
        """Look for two tasks that make what is kept for all; nothing else has to be known of them."""
        calls = [(neighbour, standing, call) for neighbour, standing in standings for call in calls_in(standing.frames)]
        for (neighbour, standing, call), (_, other, theirs) in itertools.permutations(calls, 2):
            if standing is not other and is_same_call(call, theirs) and both_still(standing, other):
                self._both_passed(neighbour, standing, other, call[0], call[0])

    def _compare(self, neighbour: Neighbour, standing: Standing, others: list[tuple[Neighbour, Standing]]) -> None:
        """Look for what two tasks that stand still do to each other."""
        for _, other in others:
            for identity, (read, write) in standing.updates.items():
                if identity in other.updates and _immutable(write.place) and both_still(standing, other):
                    self._stale(standing, other.run, read, write, "both have read it before either wrote")
            for identity, (read, write) in standing.drains.items():
                if identity in other.drains and both_still(standing, other):
                    self._emptied(standing, other.run, read, write, "both have used it, and both are going to empty it")
            for identity, (test, write) in standing.builds.items():
                passed = standing.is_past(test) and other.is_past(test)
                if passed and identity in other.builds and both_still(standing, other):
                    self._both_passed(neighbour, standing, other, test, write)
            for identity, write in standing.wrote.items():
                theirs = other.wrote.get(identity)
                if theirs is not None and identity in standing.awaits:
                    self._both_wrote(standing, other, write, theirs)

    def _both_wrote(self, standing: Standing, other: Standing, mine: Step, theirs: Step) -> None:
        place = mine.place
        assert place is not None
        now = place.value()
        if mine.value is FRESH and theirs.value is FRESH:
            # Each has made its own; one of the two is gone, and both are going to read.
            lost = place.identity in other.awaits and id(standing.run) < id(other.run)
        else:
            lost = mine.value is FRESH and same(now, self._value(theirs))
        if lost and both_still(standing, other):
            self._overwritten(standing, other.run, mine, show(mine.value), now, other.stack())

    def _alone(self, neighbour: Neighbour, standing: Standing) -> None:
        """Look for what was done to a task by one that may be gone by now."""
        for identity, write in standing.wrote.items():
            if write.place is not None and identity in standing.awaits:
                mine, now = self._value(write), write.place.value()
                if mine is UNKNOWN and any(write.node is each.node for each in self._begins[neighbour.run.task.name]):
                    mine = neighbour.begun[identity]
                if differ(now, mine):
                    self._by_another(neighbour, standing, identity, write, mine, now)
        for identity, (read, write) in standing.updates.items():
            copy = standing.copies.get(identity, UNKNOWN)
            if copy is not UNKNOWN and _immutable(write.place) and differ(write.place.value(), copy):  # type: ignore[union-attr]
                self._stale_by_another(neighbour, standing, identity, read, write)
        self._since_last_time(neighbour, standing)

    def _since_last_time(self, neighbour: Neighbour, standing: Standing) -> None:
        """Compare with the last look, if the task has not gone on since."""
        watched: dict[Identity, Step] = {key: standing.wrote[key] for key in standing.awaits}
        watched |= {key: write for key, (_, write) in standing.updates.items()}
        watched |= {key: write for key, (_, write) in standing.builds.items()}
        values = {key: step.place.value() for key, step in watched.items()}  # type: ignore[union-attr]
        values |= {key: len(write.place.owner) for key, (_, write) in standing.drains.items()}  # type: ignore[union-attr]
        key = (*standing.key, went_on(standing.run))
        last, neighbour.seen = neighbour.seen, (key, values)
        if last is None or last[0] != key or not standing.still():
            return
        for identity, value in values.items():
            before = last[1].get(identity, value)
            if not differ(before, value):
                continue
            if identity in standing.drains:
                culprit = self._culprit(neighbour, identity)
                if culprit is not None and value > before and standing.still():
                    why = f"it held {before} items, and {value} by now"
                    self._emptied(standing, culprit, *standing.drains[identity], why)
            elif identity in standing.awaits:
                self._by_another(neighbour, standing, identity, standing.wrote[identity], before, value)
            elif identity in standing.updates:
                self._stale_by_another(neighbour, standing, identity, *standing.updates[identity])
            elif not isinstance(value, _CHEAP):
                test, write = standing.builds[identity]
                culprit = self._culprit(neighbour, identity)
                if culprit is not None:
                    self._built(standing.run, culprit, test, write, value, standing.stack())

    def _value(self, write: Step) -> Any:
        """Return what a task has written, :data:`UNKNOWN` if that was made of what tasks change."""
        changed = any(not write.sources.isdisjoint(self._writes(each)) for each in list(self._alive.values()))
        return UNKNOWN if changed else write.value

    def _culprit(self, neighbour: Neighbour, identity: Identity) -> Run | None:
        """Return a task that has overlapped with another one and writes the place."""
        return next((each.run for each in neighbour.beside if identity in self._writes(each)), None)

    def _by_another(
        self, neighbour: Neighbour, standing: Standing, identity: Identity, write: Step, mine: Any, now: Any
    ) -> None:
        culprit = self._culprit(neighbour, identity)
        if culprit is not None and standing.still():
            self._overwritten(standing, culprit, write, show(mine), now, [])

    def _stale_by_another(
        self, neighbour: Neighbour, standing: Standing, identity: Identity, read: Step, write: Step
    ) -> None:
        culprit = self._culprit(neighbour, identity)
        if culprit is not None and standing.still():
            now = show(write.place.value())  # type: ignore[union-attr]
            self._stale(standing, culprit, read, write, f"it holds {now} by now")

    # -- verdicts

    def _once(self, kind: str, run: Run, name: str) -> bool:
        """Whether this is new of a task, and its kind of task has not been reported often enough."""
        known = self._reported.setdefault((kind, run.task.name, name), set())
        new = run.id not in known and len(known) < MOST_REPORTS
        if new:
            known.add(run.id)
        return new

    def _overwritten(
        self, standing: Standing, culprit: Run, write: Step, mine: str, now: Any, theirs: list[str]
    ) -> None:
        assert write.place is not None
        name, read = name_of(write), standing.awaits[write.place.identity]
        if not self._once("lost-update", standing.run, name):
            return
        if write.how == "clear":
            did = "was emptied by this task and by one beside it, each for items of its own, and this task goes on"
        elif write.how == "into":
            did = "was filled by this task and by one beside it, each with what it has read, and this task goes on"
        else:
            written = "a new object" if write.value is FRESH else mine
            did = f"was set to {written}, then by a task that ran beside it to {show(now)}, and this task goes on"
        self.watch.report(
            "lost-update",
            standing.run,
            f"{name} {did} with that: under {self.watch.pool.name} the tasks of a process share it",
            [
                self._reader.place(write),
                f"waits at {standing.waits_at()}",
                f"reads it next at {self._reader.place(read)}",
                f"overwritten by {culprit.task.name} ({culprit.id}) while {standing.run.id} waited",
                *(f"there at {line}" for line in theirs[:3]),
                *standing.stack(),
            ],
            "keep it in a local variable or pass it as an argument; what must be global per task belongs into a "
            "contextvars.ContextVar, or the object into one for each task",
            key=f"{name} {self._reader.frames.shown(write.code.co_filename)}",
            others=[culprit],
        )

    def _stale(self, standing: Standing, culprit: Run, read: Step, write: Step, why: str) -> None:
        self._updated(
            standing,
            culprit,
            (read, write),
            f"is read, waited, and then written from what was read, while another task does the same ({why}): under "
            f"{self.watch.pool.name} one of the two updates is lost",
            "hold a lock from the read to the write, or let the database or Redis count (INCR, UPDATE … SET n = n + 1)",
        )

    def _emptied(self, standing: Standing, culprit: Run, use: Step, write: Step, why: str) -> None:
        self._updated(
            standing,
            culprit,
            (use, write),
            f"is used as a whole, waited, and then emptied, while another task adds to it or does the same ({why}): "
            f"under {self.watch.pool.name} what the two put there is handled twice or never",
            "take it out before you wait (items, batch[:] = batch[:], [] or a queue.Queue), under a lock where threads "
            "share it",
        )

    def _updated(self, standing: Standing, culprit: Run, steps: tuple[Step, Step], did: str, remedy: str) -> None:
        """Report a write that follows from an older read, once for each task and name.

        :param steps: the read and the write.
        :param did: what was done with the place, as the rest of a sentence.
        """
        read, write = steps
        name = name_of(write)
        if not self._once("lost-update", standing.run, name):
            return
        self.watch.report(
            "lost-update",
            standing.run,
            f"{name} {did}",
            [
                self._reader.place(write),
                f"read at {self._reader.place(read)}",
                f"waits at {standing.waits_at()}",
                f"the other task: {culprit.task.name} ({culprit.id})",
                *standing.stack(),
            ],
            remedy,
            key=f"{name} {self._reader.frames.shown(write.code.co_filename)}",
            others=[culprit],
        )

    def _both_passed(self, neighbour: Neighbour, standing: Standing, other: Standing, test: Step, write: Step) -> None:
        place = write.place
        assert place is not None
        evidence = [*standing.stack(), *(f"there at {line}" for line in other.stack()[:3])]
        if isinstance(place, Kept) and acts(write, self._reader.sources):
            did = f"two tasks are in {name_of(write)} with the same arguments, and lru_cache keeps only what has ended"
            self._done_twice(standing, other, (test, write), name_of(write), did, evidence)
        elif notes_only(write):
            name = name_of(write).partition("[")[0]
            did = f"two tasks have found {show(noted_at(write)[2])} missing in {name}, and neither has added it yet"
            self._done_twice(standing, other, (test, write), name, did, evidence)
        elif not any(each[1] is test or each[0].identity == place.identity for each in self._suspects):
            suspect = next((each for each in neighbour.beside if each.run is other.run), neighbour)
            self._suspects.append((place, test, write, suspect, evidence))

    def _done_twice(
        self, standing: Standing, other: Standing, steps: tuple[Step, Step], name: str, did: str, evidence: list[str]
    ) -> None:
        test, write = steps
        if not self._once("done-twice", standing.run, name):
            return
        self.watch.report(
            "done-twice",
            standing.run,
            f"{did}: under {self.watch.pool.name} both do what is to be done once",
            [
                self._reader.place(test),
                *([f"added only at {self._reader.place(write)}"] if write is not test else []),
                f"waits at {standing.waits_at()}",
                f"the other task: {other.run.task.name} ({other.run.id})",
                *evidence,
            ],
            "add it before the work and under a lock, or better, where other workers see it too: a unique key "
            "in the database, SET NX in Redis",
            key=name,
            others=[other.run],
        )

    def _judge_suspects(self) -> None:
        for suspect in list(self._suspects):
            place, test, write, neighbour, evidence = suspect
            value = place.value()
            if value is not ABSENT and value is not UNKNOWN and value is not None:
                self._suspects.remove(suspect)
                if not isinstance(value, _CHEAP):
                    self._built(neighbour.run, None, test, write, value, evidence)

    def _built(self, run: Run, other: Run | None, test: Step, write: Step, value: Any, evidence: list[str]) -> None:
        name = name_of(write)
        if not self._once("built-twice", run, name):
            return
        self.watch.report(
            "built-twice",
            run,
            f"two tasks found {name} missing and each builds its own {type(value).__name__}; under "
            f"{self.watch.pool.name} one of them is dropped while its task may still use it",
            [
                self._reader.place(test),
                f"built and kept at {self._reader.place(write)}",
                *([f"the other task: {other.task.name} ({other.id})"] if other is not None else []),
                *evidence,
            ],
            "check again under a lock before you build, or build it when the worker or child starts",
            key=f"{name} {self._reader.frames.shown(write.code.co_filename)}",
            others=[] if other is None else [other],
        )


def went_on(run: Run) -> float:
    """Return what is another figure once a task has run on, if only to where it was, in a frame of the same number.

    That is the moment at which its greenlet got the hub, or the processor time that its thread has used.
    """
    since: float | None = getattr(run, "since", None)
    return cpu_of(run) if since is None else since


def both_still(one: Standing, other: Standing) -> bool:
    """Whether neither task has gone on since it was looked at."""
    return one.still() and other.still()


def notes_only(write: Step) -> bool:
    """Whether a write only notes that something is done: an item of a set or list, or ``True`` under its key."""
    place: Place = write.place  # type: ignore[assignment]
    if write.how == "add":
        return isinstance(place.owner, set)
    if write.how in ("append", "appendleft"):
        return noted_at(write) != place.identity
    return write.how == "=" and write.value is True and not place.attribute and isinstance(write.node, ast.Subscript)


def _immutable(place: Place | None) -> bool:
    """Whether a place holds a value that cannot be changed in place."""
    return place is not None and isinstance(place.value(), (*PLAIN, tuple))
