"""One worker as a test sees it: what it knows of its tasks, its facts, and its life."""

from __future__ import annotations

import signal as signals
import time
from collections.abc import Collection, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.publishing import Binding, Route
from pytest_celerypool.crossing import Crossing
from pytest_celerypool.handle import Handle, is_alive, is_stopped
from pytest_celerypool.launch import Launched
from pytest_celerypool.ledger import Ledger, TaskEntry
from pytest_celerypool.trace import Finding, Span
from pytest_celerypool.units import format_seconds

if TYPE_CHECKING:
    from pytest_celerypool.agent.publishing import Publication
    from pytest_celerypool.broker import Broker
    from pytest_celerypool.pools import Pool

#: Seconds that a warm shutdown may take before the worker is killed.
STOP_GRACE_S = 5.0


class WorkerHandle(Handle):
    """A running worker, as one test sees it: spans, findings and log are of this test alone.

    :ivar app: the application under test, pointed at the run's broker and backend.
    :ivar pool: the :class:`~pytest_celerypool.pools.Pool` of the worker.
    :ivar launch: how the worker came to life.
    :ivar timeout: the deadline in seconds of calls that are given none.
    """

    def __init__(
        self, app: Any, launched: Launched, broker: Broker, test: str, timeout: float, cluster: Handle | None = None
    ) -> None:
        self.launched = launched
        self.pool: Pool = launched.spec.pool
        self.launch = launched.spec.launch
        self.name = launched.spec.name or self.hostname
        self._cluster = cluster
        self._broker = broker
        self._crossing = self._cross()
        super().__init__(app, broker, timeout, self.new_ledger(test))
        self.ended_by_test = False
        self._log_start = launched.log_size()
        self._log_end: int | None = None
        self._asked_for: set[str] = set()
        #: The queues that the worker was told to consume no longer.
        self._cancelled: set[str] = set()
        #: The rate limits that the worker was told of, by task.
        self._rate_limits: dict[str, object] = {}
        # A worker of a cluster may have begun with what was published before it started, while others still started.
        written = launched.reader.remarks() if cluster is None else launched.reader.read()
        for record in (*launched.early, *written):
            self.ledger.feed(record)
            self._heed_command(record)
        launched.early.clear()

    def __repr__(self) -> str:
        return f"<worker {self.hostname} pool={self.pool} pid={self.pid}>"

    def new_ledger(self, test: str) -> Ledger:
        """Return a ledger for tasks of this worker: an empty one, or in a cluster one of all its tasks."""
        return Ledger(
            test,
            self.pool.name,
            reports_lost=self.pool.reports_system_exit,
            worker=self.name,
            tasks=None if self._cluster is None else self._cluster.ledger.tasks,
            clocks=self._crossing,
        )

    def _cross(self) -> Crossing:
        """Return the clocks of those whom a message to the worker passes, as it lives now."""
        apart = self.pool.takes_concurrency and not self.pool.green
        return Crossing(self.launched.main_thread, apart, self._broker.server_pid, self.launched.slot_histories)

    def close(self) -> None:
        """Let go of what the handle has opened; the worker lives on."""
        self._crossing.close()

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
    def members(self) -> Sequence[WorkerHandle]:
        """The workers that may run what the test publishes: those of the cluster, or this one."""
        return (self,) if self._cluster is None else self._cluster.members

    @property
    def place(self) -> str:
        """What verdicts say that a task ran under: the pool."""
        return self.pool.name if self._cluster is None else self._cluster.place

    @property
    def title(self) -> str:
        """What messages call the worker."""
        return self.launched.spec.title

    @property
    def label(self) -> str:
        """What headings call the worker: its pool, after its name if it has one."""
        return f"{self.name}: {self.pool}" if self.launched.spec.name else self.pool.name

    @property
    def ended(self) -> bool:
        """Whether the test has ended the worker."""
        return self.ended_by_test and self.launched.death() is not None

    @property
    def spans(self) -> list[Span]:
        """The executions of this test's tasks in this worker so far, in the order in which they began."""
        self.pump()
        return self.ledger.spans

    @property
    def findings(self) -> list[Finding]:
        """The hazards that the agent saw in this worker during this test so far, each once."""
        self.pump()
        return self.ledger.findings

    @property
    def log(self) -> str:
        """What the worker logged during this test."""
        text = self.launched.log(self._log_start)
        return text if self._log_end is None else text[: self._log_end]

    def begin_log(self) -> None:
        """Begin :attr:`log` here: what the worker logged before is not of what the test did."""
        self._log_start, self._log_end = self.launched.log_size(), None

    def end_log(self) -> None:
        """Leave what the worker logs from now on out of :attr:`log`: it is not of what the test did."""
        self._log_end = len(self.log)

    # -- what it does with tasks

    def take_in(self) -> None:
        """Take in what this worker has recorded since the last call."""
        for record in self.launched.reader.read():
            self._take(record)

    def _take(self, record: Mapping[str, Any]) -> None:
        self.ledger.feed(record)
        if record["e"] == "pub":
            self._consume(record["queue"])
            if record.get("through") is not None:
                self.note_copies(record["id"], record["retries"], Route(*record["through"]))
        elif record["e"] == "astray":
            self.soiled = True
        else:
            self._heed_command(record)

    def told(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Note a remote control command that was sent to the worker, which may not have got it yet.

        One that changes it leaves it to no other test.
        """
        self.soiled = self.soiled or alters(self.launched.info, name, arguments, self._asked_for)
        queue = arguments.get("queue")
        if name == "add_consumer" and queue is not None:
            self._consumes_again(queue)

    def _heed_command(self, record: Mapping[str, Any]) -> None:
        """Take in that the worker has obeyed a remote control command, whoever sent it, or that a task has sent one."""
        if record["e"] not in ("command", "sent"):
            return
        name, arguments = record["name"], record["arguments"]
        self.told(name, arguments)
        if record["e"] == "sent":
            return
        queue, task = arguments.get("queue"), arguments.get("task_name")
        if name == "cancel_consumer" and queue is not None:
            self._cancelled.add(queue)
            self.launched.info["queues"] = [each for each in self.queues if each != queue]
        elif name == "rate_limit" and task is not None:
            self._rate_limits[task] = arguments.get("rate_limit")

    def _consumes_again(self, queue: str) -> None:
        self._cancelled.discard(queue)
        consumed = self.launched.info.setdefault("queues", [])
        if queue not in consumed:
            consumed.append(queue)

    def rate_limit(self, name: str) -> object:
        """Return the rate limit of a task in the worker, as Celery takes it; what is false is none."""
        limit = self._rate_limits[name] if name in self._rate_limits else self._own_rate_limit(name)
        return None if limit in ("0", "0/s", "0/m", "0/h") else limit

    def _own_rate_limit(self, name: str) -> object:
        return getattr(self.app.tasks.get(name), "rate_limit", None)

    def death_notice(self) -> str:
        """Say how the worker died and which tasks it had; empty while it lives."""
        notice = self.launched.death_notice(self._log_start)
        running = [f"{entry.task}[{entry.id}]" for entry in self.own_ledger().outstanding()]
        return notice + (f"\nIt had not ended: {', '.join(running)}" if notice and running else "")

    def own_ledger(self) -> Ledger:
        """Return a ledger of the tasks that this worker had last, or would have got."""
        return self.ledger.own(self.queues)

    def waits_for_what(self, entry: TaskEntry) -> str:
        """Say what a task that this worker has, or will get, waits for."""
        if entry.unknown:
            return self.unregistered_text(entry.task, None)
        if entry.lost:
            return (
                f"was lost ({entry.spans[-1].exception}): the {self.pool} pool told nobody, "
                "and whoever waits for the result waits for ever"
            )
        stopped = f": the {self.title} (pid {self.pid}) is stopped, as by SIGSTOP, and answers nothing until SIGCONT"
        return self._step(entry) + (stopped if is_stopped(self.pid) else "")

    def _step(self, entry: TaskEntry) -> str:
        """Say how far a task has come that the worker knows and has not lost."""
        if entry.open_spans:
            span = entry.open_spans[-1]
            since = format_seconds(time.monotonic() - (span.started or 0.0))
            return f"is running in {span.slot}{self._whose} (process {span.pid}) for {since}"
        if entry.unsettled:
            return (
                f"was lost ({entry.spans[-1].exception}), and the {self.pool} pool has not said yet what "
                "becomes of it; it may take up to five seconds"
            )
        if entry.eta is not None:
            return f"waits for its ETA, {entry.eta}"
        if len(entry.receptions) > len(entry.spans):
            busy, limit = sum(span.ended is None for span in self.ledger.spans), self.rate_limit(entry.task)
            what = f"its rate limit of {limit}" if limit and busy < self.concurrency else "a free slot"
            return f"was received and waits for {what} ({busy} of {self.concurrency}{self._whose} are busy)"
        if entry.task not in self.known_tasks:
            return self.unregistered_text(entry.task, None)
        if entry.route is not None:
            return self._way(entry.route, entry.queue)
        return f"is queued in {entry.queue!r}, not received yet"

    def takers(self, route: Route) -> list[str]:
        """Return the queues of the worker that get a copy of a message that goes that way."""
        # The application may know a queue by another name than the broker: a Broadcast.
        bindings = [(name, Binding(*rest)) for name, *rest in self.launched.info.get("bindings", ())]
        taking = (binding.queue for name, binding in bindings if binding.takes(route) and self.consumes(name))
        queues = list(dict.fromkeys(taking))
        if route.kind == "fanout" and self._is_redis and queues:
            return queues[-1:]  # kombu gives what a process has subscribed to, to the queue that did so last
        return queues

    @property
    def _is_redis(self) -> bool:
        return str(self.launched.info.get("write", "")).startswith(("redis", "sentinel"))

    def _way(self, route: Route, queue: str | None) -> str:
        """Say how a message went that was given to an exchange and has not come."""
        text = f"went to the exchange {route.exchange!r} with the routing key {route.key!r}, to which "
        bound = queue or next(iter(self.takers(route)), None)
        if bound is None:
            return f"{text}no queue of the application is bound"
        text += f"the queue {bound!r} is bound, and was not received yet"
        if route.kind in ("", "direct") or not self._is_redis:
            return text
        remedy = (
            f"give apply_async() queue={queue!r} in place of the exchange"
            if queue is not None
            else f"give apply_async() declare=[app.amqp.queues[{route.exchange!r}].exchange]"
        )
        return (
            f"{text}. On Redis kombu takes an exchange for a direct one, and drops the message, unless the process "
            f"that publishes has declared it: {remedy}"
        )

    @property
    def _whose(self) -> str:
        return "" if self._cluster is None else f" of the {self.title}"

    @property
    def known_tasks(self) -> Collection[str]:
        """The names of the tasks that the worker says it knows."""
        known: Collection[str] = self.launched.info.get("tasks", ())
        return known

    @property
    def queues(self) -> Collection[str]:
        """The names of the queues that the worker says it consumes."""
        queues: Collection[str] = self.launched.info.get("queues", ())
        return queues

    def cancelled(self, queue: str | None) -> bool:
        """Whether the worker was told by remote control not to consume a queue any more."""
        return queue in self._cancelled

    def consumes(self, queue: str | None) -> bool:
        """Whether the worker takes messages from a queue."""
        return queue in self.queues and not self.ended

    @property
    def chose_queues(self) -> bool:
        """Whether the test decides which queues are consumed."""
        owned = ("-Q", "--queues", "-X", "--exclude-queues")
        return any(option.startswith(owned) for option in self.launched.spec.options)

    def knows(self, name: str) -> bool:
        """Whether a task is registered in the worker; one that is new to it is made known to it where that can be."""
        return self._knows(name) or (name in self.app.tasks and self.launched.learn() and self._knows(name))

    def _knows(self, name: str) -> bool:
        return name in self.known_tasks or name.startswith("celery.")

    def unregistered_text(self, name: str, task: Any) -> str:
        """Say that the worker does not know a task, and what to do about it."""
        known = [known for known in self.known_tasks if not known.startswith("celery.")]
        text = f"is not registered in the {self.title}, which knows {', '.join(known) or 'no task of yours'}."
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

    def heed(self, publication: Publication) -> None:
        """Be ready for a message that the test is about to publish."""
        if self.launched.records_publications and publication.task not in self.known_tasks:
            self.launched.learn()
        self._consume(publication.queue)

    def _consume(self, queue: str | None) -> None:
        """Ask the worker to consume a queue that a test publishes to, unless the test's options say which."""
        consumed = self.launched.info.get("queues", [])
        if queue is None or queue in consumed or queue in self._asked_for | self._cancelled or self.chose_queues:
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
        self._consumes_again(queue)

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
        self._crossing.close()
        self._crossing = self._cross()
        self.ledger.ask(self._crossing)
        self.ended_by_test = False
        self._asked_for.clear()
        self._cancelled.clear()
        self._rate_limits.clear()
        for record in self.launched.early:
            self._take(record)
        self.launched.early.clear()
        self.close_dead()

    def close_dead(self) -> None:
        """End the executions whose process is gone."""
        running = {span.pid for entry in self.ledger.outstanding() for span in entry.open_spans}
        gone = {pid for pid in running if pid is not None and not is_alive(pid)}
        if gone:
            self.take_in()  # the last that they recorded
            self.ledger.close_dead(lambda pid: pid not in gone, self._stored_end)

    def _stored_end(self, task_id: str) -> str | None:
        """Return the state in which the backend has the end of a task, ``None`` where it has none."""
        from celery.states import READY_STATES

        state = self.stored_state(task_id)
        return state if state in READY_STATES else None

    def stop(self, grace: float = STOP_GRACE_S) -> None:
        """Stop the worker warmly, and by force after `grace` seconds."""
        self.ended_by_test = True
        self.launched.begin_stop()
        self.launched.end(grace)
        self.pump()


def alters(
    info: Mapping[str, Any], name: str, arguments: Mapping[str, Any], asked_for: Container[str] = frozenset()
) -> bool:
    """Whether a remote control command changes a worker, so that the next test would notice.

    :param info: what the worker said of itself when it was ready, and the queues that it consumes since.
    :param name: of the command, and its `arguments`.
    :param asked_for: the queues that the plugin itself had it consume: those that a test publishes to.
    """
    if name == "add_consumer":  # of a queue that is consumed it does nothing
        queue = arguments.get("queue")
        return queue not in asked_for and queue not in info.get("queues", ())
    return name not in info.get("unchanging", ())
