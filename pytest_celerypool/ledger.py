"""What a test knows of its tasks: records become spans, and a ledger knows what has not ended yet."""

from __future__ import annotations

import ast
import copy
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pytest_celerypool.agent.publishing import Route
from pytest_celerypool.trace import LOST, Command, Finding, Span, Wait, in_order
from pytest_celerypool.waiting import Passage, QueueWaits, WaitClocks

#: Ends of one execution after which the task itself goes on under the same id.
PASSING_STATES = frozenset({"RETRY", "IGNORED"})

#: Seconds within which a pool that reports lost slots does so. Celery's prefork mostly does at once; where it asks
#: for the exit status before the system has it, it asks again after five seconds (``AsynPool.timers``).
SETTLING_S = 6.0


class Copies(NamedTuple):
    """What an exchange makes of one message: one for each of several queues."""

    route: Route
    queues: tuple[str, ...]


@dataclass
class TaskEntry:
    """All that is known of one task id: how often it was published and received, and its spans."""

    id: str
    task: str
    queue: str | None = None
    eta: str | None = None
    #: The exchange, the routing key and the type of the exchange, where it was not sent to a queue.
    route: Route | None = None
    publications: list[tuple[int, float]] = field(default_factory=list)
    #: By the number of retries of a message of which an exchange makes several.
    copies: dict[int, Copies] = field(default_factory=dict)
    receptions: list[float] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    unknown: bool = False
    #: Whether nothing of its end can be stored: then the worker's main process fails to do so too, and tells nobody.
    unstorable: bool = False
    #: The worker that had it last; empty while none has received it.
    worker: str = ""
    #: How far its message has come, as :class:`~pytest_celerypool.waiting.QueueWaits` knows it.
    passage: Passage | None = None
    #: Until when (monotonic seconds) the worker may still say what becomes of a lost slot's task.
    settles_until: float | None = None
    #: Whether its process died after it had stored its result. Celery before 5.7 stores a WorkerLostError over that.
    cut_off: bool = False

    @property
    def open_spans(self) -> list[Span]:
        """The executions that have begun and not ended."""
        return [span for span in self.spans if span.ended is None]

    def published(self, retries: int) -> int:
        """Return how many messages were published with this number of `retries`."""
        return sum(number == retries for number, _ in self.publications)

    def deliveries(self, retries: int) -> int:
        """Return how many messages with this number of `retries` the workers should get."""
        return self.published(retries) * (len(self.copies[retries].queues) if retries in self.copies else 1)

    @property
    def incomplete(self) -> bool:
        """Whether copies of a message have not come, and may be on their way."""
        came = len(self.receptions)
        return bool(self.copies) and came < sum(map(self.deliveries, {retries for retries, _ in self.publications}))

    @property
    def outstanding(self) -> bool:
        """Whether something of this task is still to come."""
        closed = sum(span.ended is not None for span in self.spans)
        begun = max(len(self.publications), len(self.receptions))
        return not self.unknown and (closed < begun or bool(self.open_spans) or self.unsettled)

    @property
    def unsettled(self) -> bool:
        """Whether its slot was lost and the worker may still say what becomes of it."""
        return self.settles_until is not None and self.spans[-1].state == LOST and time.monotonic() < self.settles_until

    @property
    def lost(self) -> bool:
        """Whether it ended without anybody being told."""
        return bool(self.spans) and self.spans[-1].state == LOST and not self.outstanding

    @property
    def state(self) -> str | None:
        """The state of the last span, ``None`` while the task has not ended."""
        return None if self.outstanding or not self.spans else self.spans[-1].state


class Ledger:
    """What happened to the tasks of one test, from what the test published and what a worker recorded.

    The workers of a cluster have a ledger each, all of the same tasks: spans and findings are of one worker, a task may
    go from one to another.

    :param test: the node id of the test.
    :param pool: the name of the pool.
    :param reports_lost: whether that pool tells what becomes of a task whose slot was lost.
    :param worker: what the worker is called.
    :param tasks: those of the other workers' ledgers; ``None`` for the ledger of a worker alone.
    :param clocks: tell how long those whom a message passes have waited for a processor; ``None``: nobody does.
    """

    def __init__(
        self,
        test: str,
        pool: str,
        *,
        reports_lost: bool,
        worker: str = "",
        tasks: dict[str, TaskEntry] | None = None,
        clocks: WaitClocks | None = None,
    ) -> None:
        self.test = test
        self._waits = QueueWaits(clocks)
        self.pool = pool
        self.worker = worker
        self._reports_lost = reports_lost
        #: Whether a slot of the worker was lost, or taken away from its task.
        self.lost_slots = False
        self._shared = tasks is not None
        self.tasks: dict[str, TaskEntry] = {} if tasks is None else tasks
        self.agent_errors: list[str] = []
        #: What the test asked of its worker by remote control.
        self.commands: list[Command] = []
        #: When Python collected garbage in the worker, in monotonic seconds, for how many, and in which process.
        self._collections: list[tuple[float, float, int]] = []
        #: Where tasks waited for others.
        self.waits: list[Wait] = []
        self._findings: dict[tuple[str, str, str, str], Finding] = {}
        #: Records of findings about tasks of others: of earlier tests of the same worker.
        self.foreign: list[Mapping[str, Any]] = []

    @property
    def spans(self) -> list[Span]:
        """Every span of the worker, in the order in which they began (or, never begun, ended)."""
        return in_order(span for span in spans_of_all(self.tasks) if span.worker == self.worker)

    @property
    def findings(self) -> list[Finding]:
        """What the detectors saw, each once."""
        return list(self._findings.values())

    def own(self, queues: Container[str]) -> Ledger:
        """Return a ledger of the worker's own tasks: those that it had last, and those that lie in its `queues`."""
        if not self._shared:
            return self
        own = copy.copy(self)
        own.tasks = {
            task_id: entry
            for task_id, entry in self.tasks.items()
            if entry.worker == self.worker or (not entry.worker and entry.queue in queues)
        }
        return own

    def find(self, finding: Finding) -> None:
        """Add a finding, or what is new of one that is known."""
        known = self._findings.setdefault(finding.identity, finding)
        if self.test not in known.tests:
            known.tests.append(self.test)
        known.ids += [each for each in finding.ids if each not in known.ids]

    def ask(self, clocks: WaitClocks) -> None:
        """From now on ask others for how long they have waited: the worker has started anew."""
        self._waits = QueueWaits(clocks)

    def outstanding(self) -> list[TaskEntry]:
        """The tasks that have not ended."""
        return [entry for entry in self.tasks.values() if entry.outstanding]

    def incomplete(self) -> list[TaskEntry]:
        """The tasks of whose messages copies have not come."""
        return [entry for entry in self.tasks.values() if entry.incomplete]

    def unknown(self) -> list[TaskEntry]:
        """The tasks that the worker refused because they are not registered in it."""
        return [entry for entry in self.tasks.values() if entry.unknown]

    def publish(
        self,
        task_id: str,
        task: str,
        retries: int,
        published: float,
        queue: str | None,
        eta: str | None,
        route: Route | None = None,
    ) -> None:
        """Note a message that the test or one of its tasks publishes, before it is sent."""
        entry = self._entry(task_id, task)
        entry.publications.append((retries, published))
        entry.queue, entry.eta, entry.route = queue, eta, route
        for span in entry.spans:  # of another worker, whose trace was read before that of the publisher
            if span.retries == retries and span.published is None:
                span.published = published
        self._waits.published(entry)

    def copied(self, task_id: str, retries: int, copies: Copies) -> None:
        """Note that an exchange makes several messages of one that was published."""
        if task_id in self.tasks:
            self.tasks[task_id].copies[retries] = copies

    def unpublish(self, task_id: str) -> None:
        """Take back the last :meth:`publish` of `task_id`: it could not be sent."""
        entry = self.tasks.get(task_id)
        if entry is not None and entry.publications:
            entry.publications.pop()
            if not entry.publications and not entry.receptions:
                del self.tasks[task_id]

    def feed(self, record: Mapping[str, Any]) -> None:
        """Take in one record of the worker's trace; kinds that concern no task are passed over."""
        handler = getattr(self, "_on_" + str(record["e"]).replace("-", "_"), None)
        if handler is not None:
            handler(record)

    def close_dead(
        self, alive: Callable[[int], bool], stored: Callable[[str], str | None] = lambda task_id: None
    ) -> None:
        """End the spans whose process is gone: as lost, unless the task's result was stored before.

        :param alive: called with a process id, tells whether it still runs.
        :param stored: called with a task id, returns the state in which the backend has its end, ``None`` without.
        """
        for entry in self.tasks.values():
            for span in entry.open_spans:
                if span.worker == self.worker and span.pid is not None and not alive(span.pid):
                    span.ended = time.monotonic()
                    span.state = stored(entry.id)
                    if span.state is None:
                        span.exception = f"process {span.pid} died"
                        self._lose(entry, span)
                    else:
                        entry.cut_off = self.lost_slots = True

    def _lose(self, entry: TaskEntry, span: Span, *, reported: bool = False) -> None:
        span.state = LOST
        self.lost_slots = True
        if (self._reports_lost or reported) and not entry.unstorable:
            entry.settles_until = time.monotonic() + SETTLING_S

    # -- records

    def _entry(self, task_id: str, task: str | None) -> TaskEntry:
        entry = self.tasks.get(task_id)
        if entry is None:
            entry = self.tasks[task_id] = TaskEntry(task_id, task or "?")
        elif task and entry.task == "?":
            entry.task = task
        return entry

    def _had(self, record: Mapping[str, Any]) -> TaskEntry:
        """Return the entry of a task that the worker has, or had."""
        entry = self._entry(record["id"], record["task"])
        entry.worker = self.worker
        return entry

    def _on_pub(self, record: Mapping[str, Any]) -> None:
        route = record.get("route")
        self.publish(
            record["id"],
            record["task"],
            record["retries"],
            record["t"],
            record["queue"],
            record["eta"],
            None if route is None else Route(*route),
        )

    def _on_unpub(self, record: Mapping[str, Any]) -> None:
        self.unpublish(record["id"])

    def _on_recv(self, record: Mapping[str, Any]) -> None:
        entry = self._had(record)
        entry.receptions.append(record["t"])
        self._waits.received(entry)

    def _on_unknown(self, record: Mapping[str, Any]) -> None:
        self._had(record).unknown = True

    def _on_unstorable(self, record: Mapping[str, Any]) -> None:
        self._entry(record["id"], None).unstorable = True

    def _on_agent_error(self, record: Mapping[str, Any]) -> None:
        self.agent_errors.append(f"{record['where']}: {record['error']}")

    def _on_finding(self, record: Mapping[str, Any]) -> None:
        finding = Finding.of(record, self.pool)
        if finding.ids and self.tasks.keys().isdisjoint(finding.ids):
            self.foreign.append(record)
        else:
            self.find(finding)

    def _on_wait(self, record: Mapping[str, Any]) -> None:
        self.waits.append(
            Wait(record["id"], record["task"], tuple(record["on"]), tuple(record["evidence"]), record["t"])
        )

    def _on_waited(self, record: Mapping[str, Any]) -> None:
        for wait in self.waits:
            if wait.id == record["id"] and wait.ended is None:
                wait.ended = record["t"]

    def _on_start(self, record: Mapping[str, Any]) -> None:
        entry = self._had(record)
        retries = record["retries"]
        published = [when for number, when in entry.publications if number == retries]
        span = Span(
            id=entry.id,
            task=record["task"],
            retries=retries,
            test=self.test,
            pool=self.pool,
            worker=self.worker,
            args=_value(record["args"], ()),
            kwargs=_value(record["kwargs"], {}),
            slot=record["slot"],
            pid=record["pid"],
            published=published[-1] if published else None,
            received=entry.receptions[-1] if entry.receptions else None,
            started=record["t"],
            memory_before=record["mem"],
        )
        span.publisher_waited = None if entry.passage is None else entry.passage.published.others
        span.queue_waited = self._waits.began(entry, span, record.get("delayed"))
        collecting = self._collecting(span.published, span.started)
        if collecting:
            span.queue_waited = (span.queue_waited or 0.0) + collecting
        entry.spans.append(span)

    def _on_gc(self, record: Mapping[str, Any]) -> None:
        self._collections.append((record["t"], record["took"], record["pid"]))

    def _collecting(self, since: float | None, until: float | None, process: int | None = None) -> float:
        """Return for how many seconds Python collected garbage between two moments, in all or one of the processes."""
        if since is None or until is None:
            return 0.0
        return sum(
            took
            for began, took, pid in self._collections
            if since <= began + took and began < until and process in (None, pid)
        )

    def _on_end(self, record: Mapping[str, Any]) -> None:
        entry = self._entry(record["id"], record["task"])
        # A retry may begin in another slot before the first execution has left its own.
        place = (record["pid"], record["slot"])
        here = [span for span in entry.open_spans if span.worker == self.worker]
        candidates = [span for span in here if (span.pid, span.slot) == place] or here
        if not candidates:
            return
        span = candidates[-1]
        span.ended = record["t"]
        span.state = record["state"]
        if span.state is None:
            # gevent's pool ends a task at its hard time limit by this exception, and then says so.
            limit = (record["exc"] or {}).get("module") == "gevent.timeout"
            self._lose(entry, span, reported=limit)
        span.cpu, span.hold, span.kept = record.get("cpu"), record.get("hold"), record.get("kept")
        span.waited, span.slot_waited = record.get("wait"), record.get("delay")
        span.stored = record.get("stored")
        span.collecting = self._collecting(span.started, span.ended, span.pid) or None
        span.collected, span.swept = record.get("collected"), record.get("swept")
        span.memory_after = record.get("mem")
        self._waits.left_slot(span)
        _set_error(span, record["exc"])

    def _on_settle(self, record: Mapping[str, Any]) -> None:
        entry = self._had(record)
        last = entry.spans[-1] if entry.spans else None
        closed = sum(span.ended is not None for span in entry.spans)
        begun = max(len(entry.publications), len(entry.receptions))
        if last is not None and last.ended is None:
            last.ended = record["t"]
            self.lost_slots = True
        elif last is None or (last.state != LOST and closed < begun):
            # Ended before a slot had it: revoked in the queue, expired, rejected.
            retries = entry.publications[-1][0] if entry.publications else 0
            last = Span(entry.id, entry.task, retries, self.test, self.pool, self.worker, ended=record["t"])
            last.published = entry.publications[-1][1] if entry.publications else None
            last.received = entry.receptions[-1] if entry.receptions else None
            entry.spans.append(last)
        elif last.state != LOST and not entry.cut_off:
            return
        last.state = record["state"]
        _set_error(last, record["exc"])


def spans_of_all(tasks: Mapping[str, TaskEntry]) -> Iterator[Span]:
    """Yield the spans of tasks, task by task."""
    return (span for entry in tasks.values() for span in entry.spans)


def _set_error(span: Span, error: dict[str, Any] | None) -> None:
    if error is not None:
        span.error, span.exception = error, error["text"]


def _value(text: str | None, default: Any) -> Any:
    """Return the value that Celery's ``argsrepr`` stands for, or the text where it stands for none."""
    if text is None:
        return default
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
