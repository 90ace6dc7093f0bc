"""What a test does with its workers: publish tasks, wait for them, and be told what is wrong with those that hang.

The same whether it has one worker or several: what differs from worker to worker is asked of each.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_celerypool.errors import WorkerError
from pytest_celerypool.launch import Memory
from pytest_celerypool.ledger import Copies, Ledger, TaskEntry, spans_of_all
from pytest_celerypool.trace import Finding, Span, in_order
from pytest_celerypool.vain import is_at_rest, is_late, is_refused, is_replaced, stores_nothing

if TYPE_CHECKING:
    from pytest_celerypool.agent.publishing import Publication, Route
    from pytest_celerypool.broker import Broker
    from pytest_celerypool.worker import WorkerHandle

_SHORTEST_POLL_S = 0.0005
_LONGEST_POLL_S = 0.005

#: Seconds after which a result that was sent has come.
_SENT_S = 1.0

_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})

#: Seconds within which an idle worker has received what it will: what an exchange hands on to it, or what it asked
#: Redis for before it was told not to consume that queue any more.
_RECEIVED_S = 1.0


class TaskTimeoutError(TimeoutError):
    """Something of a test's tasks did not happen in time; the text says what the worker was doing instead."""


class VainWaitError(Exception):
    """A result that a test waits for never comes, or not in time; the text says why.

    Not what the test gets to see: on its way Celery would take a :exc:`TimeoutError` for a socket's.
    """


class Handle:
    """What a test does with its workers, and what it can know of the tasks it published.

    :ivar app: the application under test, pointed at the run's broker and backend.
    :ivar timeout: the deadline in seconds of calls that are given none.
    :ivar ledger: notes what the test publishes; its tasks are those of all the test's workers.
    """

    def __init__(self, app: Any, broker: Broker, timeout: float, ledger: Ledger) -> None:
        self.app = app
        self.timeout = timeout
        self.ledger = ledger
        self._broker = broker
        #: What the test itself published, in that order.
        self.sent: list[Publication] = []
        #: The ids of the tasks that ``--celery-stress`` sent, and of theirs.
        self.repeated: set[str] = set()
        #: Their executions.
        self.stressed: list[Span] = []
        #: Whether they, or a remote control command, left the worker in a state in which no other test can have it.
        self.soiled = False

    @property
    def members(self) -> Sequence[WorkerHandle]:
        """The workers that may run what the test publishes."""
        raise NotImplementedError

    @property
    def place(self) -> str:
        """What verdicts say that a task ran under: the pool, or that it was a cluster."""
        raise NotImplementedError

    @property
    def spans(self) -> list[Span]:
        """The executions of this test's tasks so far, in the order in which they began."""
        self.pump()
        return in_order(spans_of_all(self.ledger.tasks))

    @property
    def findings(self) -> list[Finding]:
        """The hazards that the agent saw during this test so far, each once."""
        self.pump()
        return [finding for member in self.members for finding in member.ledger.findings]

    def settled_memory(self) -> Memory | None:
        """Return what the workers' processes use once they have collected their garbage.

        ``None`` if the system does not tell.
        """
        used: dict[int, int] = {}
        own: frozenset[int] = frozenset()
        for member in self.members:
            member.launched.collect_garbage()
            found = member.launched.memory_by_process()
            if found is None:
                return None
            used.update(found.used)
            own |= found.own
        return Memory(used, own)

    # -- publishing

    def submit(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Publish a task or a signature.

        :param task: a task of :attr:`app`, its name, or a signature (a canvas too).
        :returns: Celery's result object.
        :raises WorkerError: the task is of another application, or not registered in the worker.
        """
        __tracebackhide__ = True
        from celery.canvas import Signature

        if isinstance(task, str):
            return self.app.send_task(task, args=args, kwargs=kwargs)
        if isinstance(task, Signature):
            self._check_registered(task.task, None)
            self._check_sender(task.task, task.app)
            return task.apply_async(args=args, kwargs=kwargs) if args or kwargs else task.apply_async()
        if not hasattr(task, "apply_async"):
            raise TypeError(f"{task!r} is no task: give a task, its name, or a signature such as task.s(1, 2)")
        self._check_registered(task.name, task)
        self._check_sender(task.name, task.app)
        return task.apply_async(args=args, kwargs=kwargs)

    def run(self, task: Any, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Publish a task or a signature and wait for its end, also if it ignores its result.

        :param timeout: seconds; ``--celery-timeout`` if not given.
        :returns: the task's result.
        :raises TaskTimeoutError: it did not end in time.
        :raises WorkerError: the worker died, or does not know the task.
        :raises TypeError: the task takes an argument ``timeout`` itself.
        :raises Exception: what the task raised.
        """
        __tracebackhide__ = True
        if timeout is not None:
            self._refuse_ambiguous_timeout(task, timeout)
        return self._result(self.submit(task, *args, **kwargs), self._deadline(timeout))

    def map(self, task: Any, iterable: Iterable[Any], timeout: float | None = None) -> list[Any]:
        """Publish `task` once for each element and wait for all.

        :param timeout: seconds for all of them together; ``--celery-timeout`` if not given.
        :returns: the results in the order of `iterable`; the first exception is raised.
        """
        __tracebackhide__ = True
        deadline = self._deadline(timeout)
        return [self._result(result, deadline) for result in [self.submit(task, element) for element in iterable]]

    # -- waiting

    def drain(self, timeout: float | None = None) -> None:
        """Wait until everything published in this test, with its retries and children, has ended.

        :param timeout: seconds; ``--celery-timeout`` if not given.
        :raises TaskTimeoutError: something had not ended in time, or cannot end: it says what, and why.
        :raises WorkerError: the worker died.
        """
        __tracebackhide__ = True
        self._wait(self._is_drained, self._deadline(timeout), self._hopeless)

    def pump(self) -> None:
        """Take in what the workers have recorded since the last call."""
        for member in self.members:
            member.take_in()

    def check(
        self,
        awaited: Mapping[str, tuple[str, ...]] = _NOTHING,
        deadline: float = math.inf,
        *,
        patient: bool = False,
    ) -> None:
        """Raise if a wait for results is in vain.

        :param awaited: the ids of the results, each with those that come before it in its chain.
        :param deadline: when the wait ends, in monotonic seconds.
        :param patient: whether the wait has an end of its own. A test that cancels a queue may want to see it come.
        :raises WorkerError: worker or server are dead, or nobody consumes a task.
        :raises VainWaitError: a task left no result, or is due only after the deadline.
        """
        __tracebackhide__ = True
        self.pump()
        for member in self.members:
            if member.launched.death() is not None and self._is_missed(member):
                self.pump()
                raise WorkerError(member.death_notice())
        if self.server_notice():
            raise WorkerError(self.server_notice())
        for entry in self._decisive(awaited):
            if patient and self._was_cancelled(entry):
                continue
            if entry.lost or (entry.outstanding and self._in_vain(entry)):
                raise WorkerError(self.waits_for(entry))
            if self._never_comes(entry, deadline):
                raise VainWaitError(self.why_in_vain(entry))

    def _decisive(self, awaited: Mapping[str, tuple[str, ...]]) -> list[TaskEntry]:
        """Return the tasks on which results depend: their own, or while these are not published those before them."""
        tasks = self.ledger.tasks
        # The results of one group have the same before them, which may be as many.
        before = {id(ids): ids for task_id, ids in awaited.items() if task_id not in tasks}
        wanted = dict.fromkeys([*awaited, *(each for ids in before.values() for each in ids)])
        return [tasks[task_id] for task_id in wanted if task_id in tasks]

    def _never_comes(self, entry: TaskEntry, deadline: float) -> bool:
        """Whether the result of a task does not come before `deadline`, although nothing is wrong with the worker."""
        left = deadline - time.monotonic()
        if stores_nothing(entry):
            idle = is_refused(entry) or (is_at_rest(entry) and not self._others_go_on(entry, left))
            return idle and self._has_no_end(entry)
        idle = is_late(entry, left) and is_at_rest(entry) and not self._others_go_on(entry, left)
        return idle and not self._is_revoked(entry)

    def _others_go_on(self, entry: TaskEntry, seconds: float) -> bool:
        """Whether another task may still store a result for this one, go on under its id, or revoke it."""
        return any(
            other is not entry and not self._in_vain(other) and not is_late(other, seconds)
            for other in self.ledger.outstanding()
        )

    def _has_no_end(self, entry: TaskEntry) -> bool:
        """Whether the backend has no end of a task, and says so."""
        from celery.states import READY_STATES

        state = self.stored_state(entry.id)
        return state is not None and state not in READY_STATES

    def _is_revoked(self, entry: TaskEntry) -> bool:
        """Whether the test has asked its workers to revoke a task: they may store that at once."""
        return any(
            entry.id in command.ids or not command.ids
            for member in self.members
            for command in member.ledger.commands
            if command.name.startswith(("revoke", "terminate"))
        )

    def why_in_vain(self, entry: TaskEntry) -> str:
        """Say in one line why the result of a task does not come, or does not in time."""
        if entry.outstanding:
            return (
                f"{self.waits_for(entry)}, and the wait for its result would end before that. "
                "Wait with a longer timeout=, or give the task an earlier ETA."
            )
        name = f"{entry.task}[{entry.id}]"
        if is_refused(entry):
            reason = str(entry.spans[-1].exception)
            accepted = ", ".join(map(str, self.app.conf.accept_content))
            hint = f" By accept_content it takes {accepted}." if reason.startswith("ContentDisallowed") else ""
            return (
                f"{name} was refused by the worker for its content ({reason}) and left no result: whoever waits for it "
                f"waits for ever.{hint}"
            )
        if entry.state == "REJECTED":
            return f"{name} raised Reject and left no result: whoever waits for it waits for ever."
        return (
            f"{name} raised Ignore and left no result, its stored state is {self.stored_state(entry.id)}: whoever "
            "waits for it waits for ever. A task that raises Ignore has to store its end itself before, as with "
            "self.update_state(state='FAILURE', meta=…)."
        )

    def _is_missed(self, dead: WorkerHandle) -> bool:
        """Whether the test can do nothing more without a worker that is dead."""
        return not dead.ended_by_test or all(member.launched.death() is not None for member in self.members)

    def server_notice(self) -> str:
        """Say that the run's own server was killed; empty while it lives."""
        return "" if self._broker.alive() else "the embedded server, broker and result backend of this run, was killed"

    def _wait(self, over: Callable[[], bool], deadline: float, hopeless: Callable[[], bool]) -> None:
        __tracebackhide__ = True
        pause = _SHORTEST_POLL_S
        while True:
            self.pump()
            if over():
                return
            self.check()
            self._close_dead()
            if over():
                return
            if hopeless() or time.monotonic() >= deadline:
                raise TaskTimeoutError(self.diagnosis())
            time.sleep(pause)
            pause = min(pause * 1.3, _LONGEST_POLL_S)

    def _is_drained(self) -> bool:
        """Whether all has ended, and what an exchange may have copied has come; a copy comes soon or never."""
        if self.ledger.outstanding():
            return False
        entries = self.ledger.incomplete()
        return not entries or time.monotonic() - max(map(_last_event, self.ledger.tasks.values())) > _RECEIVED_S

    def _hopeless(self) -> bool:
        """Whether all that is outstanding waits for something that no patience brings."""
        outstanding = self.ledger.outstanding()
        return bool(outstanding) and all(self._in_vain(entry) or is_late(entry, self.timeout) for entry in outstanding)

    def _in_vain(self, entry: TaskEntry) -> bool:
        """Whether no worker has a task, and none will."""
        if self._unconsumed(entry):
            # A task may see to it that a cancelled queue is consumed again.
            return not self._was_cancelled(entry) or self._overdue(entry)
        return self._stranded(entry) or self._astray(entry)

    def _unconsumed(self, entry: TaskEntry) -> bool:
        if entry.receptions or entry.spans or entry.queue is None:
            return False
        return all(
            (member.chose_queues or member.cancelled(entry.queue)) and not member.consumes(entry.queue)
            for member in self.members
        )

    def _was_cancelled(self, entry: TaskEntry) -> bool:
        """Whether a worker would consume a task's queue, had it not been told otherwise."""
        return any(member.cancelled(entry.queue) for member in self.members)

    def _overdue(self, entry: TaskEntry) -> bool:
        """Whether the workers, with nothing else of the test's to do, had the time to receive a task and did not."""
        if any(other.receptions for other in self.ledger.outstanding()):
            return False
        return all(time.monotonic() - published > _RECEIVED_S for _, published in entry.publications)

    def _astray(self, entry: TaskEntry) -> bool:
        """Whether a message went to an exchange and to none of the queues that the application knows.

        The broker may know one, which is told by the message coming.
        """
        if entry.route is None or entry.queue is not None or entry.receptions or entry.spans:
            return False
        ready = not any(member.ended or member.launched.death() is not None for member in self.members)
        return ready and self._overdue(entry)

    def _stranded(self, entry: TaskEntry) -> bool:
        """Whether the test ended the worker that had a task, and no other can get it."""
        member = self._member_of(entry)
        if member is None or not entry.worker or not member.ended:
            return False
        return not any(other.consumes(entry.queue) for other in self.members)

    def _member_of(self, entry: TaskEntry) -> WorkerHandle | None:
        """Return the worker that has a task, or else one that will get it; ``None`` if there is no worker."""
        members = self.members
        had = next((member for member in members if member.name == entry.worker), None)
        will = next((member for member in members if member.consumes(entry.queue)), None)
        return had or will or next(iter(members), None)

    def pool_of(self, entry: TaskEntry) -> str:
        """Return the name of the pool that a task ran under, or would have; empty if there is no worker."""
        member = self._member_of(entry)
        return "" if member is None else member.pool.name

    def _close_dead(self) -> None:
        running = [span for entry in self.ledger.outstanding() for span in entry.open_spans]
        for member in self.members:
            own = [span for span in running if span.worker == member.name]
            # That a worker itself has died is noticed otherwise, unless the test ended it and goes on with others.
            if any(span.pid not in (None, member.pid) for span in own) or (own and member.ended):
                member.close_dead()

    def _result(self, result: Any, deadline: float) -> Any:
        __tracebackhide__ = True
        children = getattr(result, "results", None)
        if children is not None:
            return [self._result(child, deadline) for child in children]
        self._wait(lambda: self._is_over(result.id), deadline, lambda: self._cannot_begin(result.id, deadline))
        entry = self.ledger.tasks.get(result.id)
        if entry is not None and (entry.unknown or (entry.lost and not result.ready())):
            raise WorkerError(self.waits_for(entry))
        last = in_order(entry.spans)[-1] if entry is not None and entry.spans else None
        if entry is not None and last is not None and (getattr(result, "ignored", False) or not result.ready()):
            if last.state == "SUCCESS" and not getattr(result, "ignored", False) and self._is_overwritten(entry):
                return _get_overwritten(result, entry)
            return self._from_span(last)
        return result.get(timeout=max(1.0, deadline - time.monotonic()), disable_sync_subtasks=False)

    def _is_overwritten(self, entry: TaskEntry) -> bool:
        """Whether the backend has, of a task that has ended, that an attempt before will be repeated.

        Celery publishes a retry before it stores that there will be one (``Task.retry`` does the former, the tracer's
        ``handle_retry`` the latter), so another slot can be quicker.
        """
        if all(span.state != "RETRY" for span in entry.spans) or self.stored_state(entry.id) != "RETRY":
            return False
        task, conf = self.app.tasks.get(entry.task), self.app.conf
        # With these set, and the result ignored, RETRY is stored and the end is not.
        return not (conf.task_store_errors_even_if_ignored if task is None else task.store_errors_even_if_ignored)

    def stored_state(self, task_id: str) -> str | None:
        """Return the state that the backend has of a task, ``None`` where it cannot be asked."""
        try:
            state: str = self.app.backend.get_state(task_id)
        except Exception:  # noqa: BLE001 - any backend's own errors, a server that has died among them
            return None
        return state

    def _is_over(self, task_id: str) -> bool:
        entry = self.ledger.tasks.get(task_id)
        if entry is not None and (entry.spans or entry.unknown):
            return not entry.outstanding and not (is_replaced(entry) and self._others_go_on(entry, math.inf))
        # The end of a chain whose beginning failed is never published: its result says so.
        return entry is None and not self.ledger.outstanding()

    def _cannot_begin(self, task_id: str, deadline: float) -> bool:
        entry = self.ledger.tasks.get(task_id)
        return entry is not None and (self._in_vain(entry) or self._never_comes(entry, deadline))

    def _from_span(self, span: Span) -> Any:
        __tracebackhide__ = True
        if span.state == "SUCCESS":
            return None
        if span.error is None:
            raise TaskTimeoutError(f"{span.task}[{span.id}] ended as {span.state} and left no result")
        error = span.error
        raise self.app.backend.exception_to_python(
            {"exc_type": error["type"], "exc_message": error["args"], "exc_module": error["module"]}
        )

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    # -- telling what is wrong

    def diagnosis(self, awaited: Mapping[str, tuple[str, ...]] = _NOTHING) -> str:
        """Say what of this test has not ended, what each such task waits for, and where every slot is.

        :param awaited: the results that were waited for, as for :meth:`check`: what has ended without one is said too.
        """
        outstanding = self.ledger.outstanding()
        unstored = [entry for entry in self._decisive(awaited) if stores_nothing(entry) and self._has_no_end(entry)]
        told = [self.why_in_vain(entry) for entry in unstored[:20]]
        if not outstanding:
            return "\n".join(told) or "nothing that was published is outstanding"
        lines = [*told, f"not ended under {self.place}:", *(f"  {self.waits_for(entry)}" for entry in outstanding[:20])]
        if len(outstanding) > 20:
            lines.append(f"  … and {len(outstanding) - 20} more")
        busy = {span.worker for entry in outstanding for span in entry.open_spans}
        for member in self.members:
            if member.name in busy and member.launched.death() is None:
                whose = f" of the {member.title}" if len(self.members) > 1 else ""
                lines += ["", f"where every slot{whose} is:", member.launched.stacks()]
        return "\n".join(lines)

    def waits_for(self, entry: TaskEntry) -> str:
        """Say in one line what a task that has not ended waits for, or why its end is known to nobody."""
        return f"{entry.task}[{entry.id}] {self._waits_for_what(entry)}"

    def why_never(self, entry: TaskEntry) -> str:
        """Say why no worker has a task and none will, empty where one may."""
        return self._waits_for_what(entry) if self._in_vain(entry) else ""

    def _waits_for_what(self, entry: TaskEntry) -> str:
        member = self._member_of(entry)
        if not entry.unknown and not entry.lost and self._unconsumed(entry):
            since = " since cancel_consumer" if self._was_cancelled(entry) else ""
            return f"lies in the queue {entry.queue!r}, which nobody consumes{since} ({self._consumed()})"
        if member is None:
            return "was published, and no worker was started"
        if not entry.unknown and not entry.lost and self._stranded(entry):
            return f"was in the {member.title}, which the test has ended"
        return member.waits_for_what(entry)

    def _consumed(self) -> str:
        """Say who consumes which queues."""
        return f"this worker consumes: {', '.join(sorted(self.members[0].queues)) or 'nothing'}"

    def unregistered(self, ids: Iterable[str]) -> list[str]:
        """Say of those of the tasks `ids` that the worker does not know what to do about it."""
        entries = [entry for task_id in ids if (entry := self.ledger.tasks.get(task_id)) is not None]
        return [
            f"{entry.task}[{entry.id}] {member.unregistered_text(entry.task, None)}"
            for entry in entries
            if (member := self._member_of(entry)) is not None and entry.task not in member.known_tasks
        ]

    def _check_registered(self, name: str, task: Any) -> None:
        __tracebackhide__ = True
        if not self.members or any(member.knows(name) for member in self.members):
            return
        if task is not None and task.app is not self.app and name not in self.app.tasks:
            raise WorkerError(
                f"{name} belongs to the application {task.app.main!r}; this worker runs {self.app.main!r}. "
                "Give the right one with --celery-app or celery_pool_app."
            )
        raise WorkerError(f"{name} {self.members[0].unregistered_text(name, task)}")

    def _check_sender(self, name: str, app: Any) -> None:
        """Refuse what another application would send, to a broker of its own."""
        __tracebackhide__ = True
        sender = app._get_current_object() if hasattr(app, "_get_current_object") else app  # a proxy: current_app
        if sender is not self.app:
            raise WorkerError(
                f"{name} would be sent by the application {sender.main!r}, to its own broker, and this worker runs "
                f"{self.app.main!r}: nothing was sent. A shared task is sent by the current application, mostly the "
                "one that was made last. Give the application under test with --celery-app or celery_pool_app, or make "
                "it the current one again in the test: app.set_current()."
            )

    def _refuse_ambiguous_timeout(self, task: Any, timeout: float) -> None:
        __tracebackhide__ = True
        import inspect

        function = getattr(task, "run", None)
        if function is not None and "timeout" in inspect.signature(function).parameters:
            raise TypeError(
                f"{task.name} takes an argument 'timeout' itself. Say which is meant: "
                f"run(task.s(…, timeout={timeout!r})) gives it to the task, run(task.s(…), timeout={timeout!r}) "
                "is how long to wait."
            )

    # -- publications of this process

    def note_copies(self, task_id: str, retries: int, route: Route | None) -> None:
        """Note it if an exchange hands a message on to several of the queues that the workers consume."""
        takers = [] if route is None else [taker for member in self.members for taker in member.takers(route)]
        if route is not None and len(set(takers)) > 1:
            self.ledger.copied(task_id, retries, Copies(route, tuple(dict.fromkeys(takers))))

    def publishing(self, publication: Publication) -> None:
        """Note a message that the test is about to publish, and have its queue consumed."""
        if publication.parent is None and not publication.retries and not publication.task.startswith("celery."):
            self.sent.append(publication)
        if not any(member.launched.records_publications for member in self.members):
            self.ledger.publish(
                publication.id,
                publication.task,
                publication.retries,
                publication.published,
                publication.queue,
                publication.eta,
                publication.route,
            )
            self.note_copies(publication.id, publication.retries, publication.through)
        for member in self.members:
            member.heed(publication)


def _last_event(entry: TaskEntry) -> float:
    """Return when something last happened to a task, in monotonic seconds."""
    published = [when for _, when in entry.publications]
    return max([*published, *entry.receptions, *(span.ended or 0.0 for span in entry.spans)], default=0.0)


def is_alive(pid: int) -> bool:
    """Whether there is a process of that id that has not exited; one that nobody has waited for has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and is somebody else's
        return True
    return _status(pid) not in (None, "zombie")


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal, and not continued."""
    return _status(pid) == "stopped"


def _status(pid: int) -> str | None:
    """Return what the system says that a process does, in psutil's words; ``None`` if there is no such process."""
    import psutil

    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return None


def _get_overwritten(result: Any, entry: TaskEntry) -> Any:
    """Return the result of a task whose end another attempt has overwritten, if it was sent to this process.

    Redis sends results to those who have subscribed, as whoever publishes a task does.

    :raises WorkerError: the backend is one that is asked, or another process has published the task (a chain's last).
    """
    from celery.exceptions import TimeoutError as CeleryTimeoutError

    __tracebackhide__ = True
    try:
        return result.get(timeout=_SENT_S, disable_sync_subtasks=False)
    except CeleryTimeoutError:
        raise WorkerError(
            f"{entry.task}[{entry.id}] ended as {entry.state}, and Celery then stored RETRY over that, the end of an "
            "attempt before: whoever waits for the result waits for ever. It publishes a retry before it stores that "
            "there will be one, so another slot can be quicker; with a countdown of a second or more it is not."
        ) from None
