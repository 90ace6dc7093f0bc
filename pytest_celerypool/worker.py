"""The handle: what a test does with its worker, and what it can know of the tasks it published."""

from __future__ import annotations

import os
import signal as signals
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

from pytest_celerypool.errors import WorkerError
from pytest_celerypool.trace import Finding, Ledger, Span, TaskEntry
from pytest_celerypool.units import format_seconds

if TYPE_CHECKING:
    from pytest_celerypool.agent.publishing import Publication
    from pytest_celerypool.broker import Broker
    from pytest_celerypool.launch import Launched
    from pytest_celerypool.pools import Pool

#: Seconds that a warm shutdown may take before the worker is killed.
STOP_GRACE_S = 5.0

_SHORTEST_POLL_S = 0.0005
_LONGEST_POLL_S = 0.005


class TaskTimeoutError(TimeoutError):
    """Something of a test's tasks did not happen in time; the text says what the worker was doing instead."""


class WorkerHandle:
    """A running worker, as one test sees it: spans, findings and log are of this test alone.

    :ivar app: the application under test, pointed at the run's broker and backend.
    :ivar pool: the :class:`~pytest_celerypool.pools.Pool` of the worker.
    :ivar launch: how the worker came to life.
    :ivar timeout: the deadline in seconds of calls that are given none.
    """

    def __init__(self, app: Any, launched: Launched, broker: Broker, test: str, timeout: float) -> None:
        self.app = app
        self._broker = broker
        self.pool: Pool = launched.spec.pool
        self.launch = launched.spec.launch
        self.launched = launched
        self.ledger = Ledger(test, self.pool.name, reports_lost=self.pool.reports_system_exit)
        self.ended_by_test = False
        self.timeout = timeout
        self._log_start = launched.log_size()
        self._asked_for: set[str] = set()
        #: What the test itself published, in that order.
        self.sent: list[Publication] = []
        #: The ids of the tasks that ``--celery-stress`` sent, and of theirs.
        self.repeated: set[str] = set()
        #: Whether they left the worker in a state in which no other test can have it.
        self.soiled = False
        for record in (*launched.early, *launched.reader.remarks()):
            self.ledger.feed(record)
        launched.early.clear()

    def __repr__(self) -> str:
        return f"<worker {self.hostname} pool={self.pool} pid={self.pid}>"

    # -- facts

    @property
    def pid(self) -> int:
        """The process id of the worker's main process."""
        return self.launched.pid

    @property
    def hostname(self) -> str:
        """The worker's node name, as in ``app.control.inspect(destination=[…])``."""
        return str(self.launched.info.get("hostname", ""))

    @property
    def concurrency(self) -> int:
        """The number of slots that the worker says it has."""
        return int(self.launched.info.get("concurrency", 0))

    @property
    def spans(self) -> list[Span]:
        """The executions of this test's tasks so far, in the order in which they began."""
        self.pump()
        return self.ledger.spans

    @property
    def findings(self) -> list[Finding]:
        """The hazards that the agent saw during this test so far, each once."""
        self.pump()
        return self.ledger.findings

    @property
    def log(self) -> str:
        """What the worker logged during this test."""
        return self.launched.log(self._log_start)

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
            return task.apply_async(args=args, kwargs=kwargs) if args or kwargs else task.apply_async()
        if not hasattr(task, "apply_async"):
            raise TypeError(f"{task!r} is no task: give a task, its name, or a signature such as task.s(1, 2)")
        self._check_registered(task.name, task)
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
        self._wait(lambda: not self.ledger.outstanding(), self._deadline(timeout), self._hopeless)

    def pump(self) -> None:
        """Take in what the worker has recorded since the last call."""
        for record in self.launched.reader.read():
            self._take(record)

    def _take(self, record: Mapping[str, Any]) -> None:
        self.ledger.feed(record)
        if record["e"] == "pub":
            self._consume(record["queue"])

    def check(self, ids: Iterable[str] = ()) -> None:
        """Raise :exc:`WorkerError` if waiting for `ids` is in vain: worker or server dead, or nobody consumes them."""
        __tracebackhide__ = True
        self.pump()
        if self.launched.death() is not None:
            self.pump()
            raise WorkerError(self.death_notice())
        if self.server_notice():
            raise WorkerError(self.server_notice())
        for task_id in ids:
            entry = self.ledger.tasks.get(task_id)
            if entry is not None and (entry.lost or (entry.outstanding and self._unconsumed(entry))):
                raise WorkerError(self.waits_for(entry))

    def death_notice(self) -> str:
        """Say how the worker died and which tasks it had; empty while it lives."""
        notice = self.launched.death_notice(self._log_start)
        running = [f"{entry.task}[{entry.id}]" for entry in self.ledger.outstanding()]
        return notice + (f"\nIt had not ended: {', '.join(running)}" if notice and running else "")

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

    def _hopeless(self) -> bool:
        """Whether all that is outstanding waits for something that no patience brings."""
        return all(self._unconsumed(entry) or _far(entry, self.timeout) for entry in self.ledger.outstanding())

    def _close_dead(self) -> None:
        running = [span for entry in self.ledger.outstanding() for span in entry.open_spans]
        if any(span.pid not in (None, self.pid) for span in running):
            self.ledger.close_dead(_alive)

    def _result(self, result: Any, deadline: float) -> Any:
        __tracebackhide__ = True
        children = getattr(result, "results", None)
        if children is not None:
            return [self._result(child, deadline) for child in children]
        self._wait(lambda: self._is_over(result.id), deadline, lambda: self._cannot_begin(result.id))
        entry = self.ledger.tasks.get(result.id)
        if entry is not None and (entry.unknown or (entry.lost and not result.ready())):
            raise WorkerError(self.waits_for(entry))
        last = entry.spans[-1] if entry is not None and entry.spans else None
        if last is not None and (getattr(result, "ignored", False) or not result.ready()):
            return self._from_span(last)
        return result.get(timeout=max(1.0, deadline - time.monotonic()), disable_sync_subtasks=False)

    def _is_over(self, task_id: str) -> bool:
        entry = self.ledger.tasks.get(task_id)
        if entry is not None and (entry.spans or entry.unknown):
            return not entry.outstanding
        # The end of a chain whose beginning failed is never published: its result says so.
        return entry is None and not self.ledger.outstanding()

    def _cannot_begin(self, task_id: str) -> bool:
        entry = self.ledger.tasks.get(task_id)
        return entry is not None and self._unconsumed(entry)

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

    def diagnosis(self) -> str:
        """Say what of this test has not ended, what each such task waits for, and where every slot is."""
        outstanding = self.ledger.outstanding()
        if not outstanding:
            return "nothing that was published is outstanding"
        lines = [f"not ended under {self.pool}:", *(f"  {self.waits_for(entry)}" for entry in outstanding[:20])]
        if len(outstanding) > 20:
            lines.append(f"  … and {len(outstanding) - 20} more")
        if any(entry.open_spans for entry in outstanding) and self.launched.death() is None:
            lines += ["", "where every slot is:", self.launched.stacks()]
        return "\n".join(lines)

    def waits_for(self, entry: TaskEntry) -> str:
        """Say in one line what a task that has not ended waits for, or why its end is known to nobody."""
        name = f"{entry.task}[{entry.id}]"
        if entry.unknown:
            return f"{name} {self._unregistered(entry.task, None)}"
        if entry.lost:
            return (
                f"{name} was lost ({entry.spans[-1].exception}): the {self.pool} pool told nobody, "
                "and whoever waits for the result waits for ever"
            )
        if entry.open_spans:
            span = entry.open_spans[-1]
            since = format_seconds(time.monotonic() - (span.started or 0.0))
            return f"{name} is running in {span.slot} (process {span.pid}) for {since}"
        if entry.unsettled:
            return (
                f"{name} was lost ({entry.spans[-1].exception}), and the {self.pool} pool has not said yet what "
                "becomes of it; it may take up to five seconds"
            )
        if self._unconsumed(entry):
            consumed = ", ".join(sorted(self.launched.info.get("queues", ())))
            return f"{name} lies in the queue {entry.queue!r}, which nobody consumes (this worker consumes: {consumed})"
        if entry.eta is not None:
            return f"{name} waits for its ETA, {entry.eta}"
        if len(entry.receptions) > len(entry.spans):
            busy = sum(len(other.open_spans) for other in self.ledger.tasks.values())
            return f"{name} was received and waits for a free slot ({busy} of {self.concurrency} are busy)"
        if entry.task not in self.launched.info.get("tasks", ()):
            return f"{name} {self._unregistered(entry.task, None)}"
        return f"{name} is queued in {entry.queue!r}, not received yet"

    def unregistered(self, ids: Iterable[str]) -> list[str]:
        """Say of those of the tasks `ids` that the worker does not know what to do about it."""
        known = self.launched.info.get("tasks", ())
        entries = [entry for task_id in ids if (entry := self.ledger.tasks.get(task_id)) is not None]
        return [
            f"{entry.task}[{entry.id}] {self._unregistered(entry.task, None)}"
            for entry in entries
            if entry.task not in known
        ]

    def _unconsumed(self, entry: TaskEntry) -> bool:
        if entry.receptions or entry.spans or entry.queue is None or not self._chose_queues:
            return False
        return entry.queue not in self.launched.info.get("queues", ())

    @property
    def _chose_queues(self) -> bool:
        """Whether the test's options decide which queues are consumed."""
        owned = ("-Q", "--queues", "-X", "--exclude-queues")
        return any(option.startswith(owned) for option in self.launched.spec.options)

    def _check_registered(self, name: str, task: Any) -> None:
        __tracebackhide__ = True
        if self._knows(name) or (name in self.app.tasks and self.launched.learn() and self._knows(name)):
            return
        if task is not None and task.app is not self.app and name not in self.app.tasks:
            raise WorkerError(
                f"{name} belongs to the application {task.app.main!r}; this worker runs {self.app.main!r}. "
                "Give the right one with --celery-app or celery_pool_app."
            )
        raise WorkerError(f"{name} {self._unregistered(name, task)}")

    def _knows(self, name: str) -> bool:
        return name in self.launched.info.get("tasks", ()) or name.startswith("celery.")

    def _unregistered(self, name: str, task: Any) -> str:
        known = [known for known in self.launched.info.get("tasks", ()) if not known.startswith("celery.")]
        text = f"is not registered in the {self.pool} worker, which knows {', '.join(known) or 'no task of yours'}."
        task = task if task is not None else self.app.tasks.get(name)
        if self.launched.records_publications and task is not None:
            return f"{text} Its children were forked before the task was registered: restart() the worker."
        function = getattr(task, "run", None)
        if "<locals>" in getattr(function, "__qualname__", ""):
            return (
                f"{text} It is defined inside a function, where no other process can import it: move it to the top "
                "of a module, or make application and tasks in a factory and give --celery-app=MODULE:FACTORY(), or "
                "run the worker in the test's own process: --celery-launch=inprocess."
            )
        return (
            f"{text} A worker knows what importing the application imports: add the task's module to "
            "include=[…], imports, or autodiscover_tasks()."
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

    def publishing(self, publication: Publication) -> None:
        """Note a message that the test is about to publish, and have its queue consumed."""
        if publication.parent is None and not publication.retries and not publication.task.startswith("celery."):
            self.sent.append(publication)
        if not self.launched.records_publications:
            self.ledger.publish(
                publication.id,
                publication.task,
                publication.retries,
                publication.published,
                publication.queue,
                publication.eta,
            )
        elif publication.task not in self.launched.info.get("tasks", ()):
            self.launched.learn()
        self._consume(publication.queue)

    def _consume(self, queue: str | None) -> None:
        """Ask the worker to consume a queue that a test publishes to, unless the test's options say which."""
        consumed = self.launched.info.get("queues", [])
        if queue is None or queue in consumed or queue in self._asked_for or self._chose_queues:
            return
        self._asked_for.add(queue)
        known = self.app.amqp.queues.get(queue)
        exchange = getattr(getattr(known, "exchange", None), "name", None) or queue
        kind = getattr(getattr(known, "exchange", None), "type", None) or "direct"
        self.app.control.add_consumer(
            queue,
            exchange=exchange,
            exchange_type=kind,
            routing_key=getattr(known, "routing_key", None) or queue,
            destination=[self.hostname],
        )
        consumed.append(queue)

    # -- the worker's life

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Send a signal to the worker: ``SIGKILL`` to all its processes, any other to the main one."""
        self.ended_by_test = True
        self.launched.send_signal(signal)

    def restart(self) -> None:
        """Stop the worker and start another in its place; what is queued stays queued.

        :raises WorkerError: the new worker cannot start.
        """
        self.stop()
        self.launched.restart()
        self.ended_by_test = False
        self._asked_for.clear()
        for record in self.launched.early:
            self._take(record)
        self.launched.early.clear()
        self.ledger.close_dead(_alive)

    def stop(self, grace: float = STOP_GRACE_S) -> None:
        """Stop the worker warmly, and by force after `grace` seconds."""
        self.ended_by_test = True
        self.launched.begin_stop()
        self.launched.end(grace)
        self.pump()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and is somebody else's
        return True
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _far(entry: TaskEntry, timeout: float) -> bool:
    """Whether a task waits for an ETA that lies beyond the deadline of a drain."""
    if entry.eta is None or entry.open_spans:
        return False
    from datetime import datetime

    try:
        eta = datetime.fromisoformat(entry.eta)
    except ValueError:
        return False
    now = datetime.now(UTC) if eta.tzinfo else datetime.now()
    return (eta - now).total_seconds() > timeout
