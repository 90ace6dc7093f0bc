"""Tasks that wait for other tasks, in a slot that these may need."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.promises.limits import definition

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

REFUSED, ALLOWED = "join-in-task", "join-allowed"

#: What Celery's ``RuntimeError`` says where it refuses to wait.
_REFUSAL = "result.get() within a task"

#: So often, and over so many seconds, a task must ask for the state of another one to be waiting for it.
_POLLS, _POLLING_S = 3, 0.3


class Joins(Detector):
    """Sees ``get()``, ``join()`` and loops over ``ready()`` within tasks.

    Who waits, and for what, goes into the trace: the children of a pool do not know of one another, but whoever reads
    the trace sees when all slots wait (:mod:`pytest_celerypool.verdict.hazards`).
    """

    kinds = (
        Kind(REFUSED, "fail", "a task waited for another one, which Celery refuses"),
        Kind(ALLOWED, "warn", "a task waits for another one in its slot"),
    )

    def begin(self) -> None:
        """See every way to wait for a result."""
        from celery.result import AsyncResult, ResultSet

        for owner, names in ((AsyncResult, ("get",)), (ResultSet, ("get", "join", "join_native"))):
            for name in names:
                self.patch(owner, name, self._watched(vars(owner)[name]))
        # An alias: ``AsyncResult.wait = AsyncResult.get``.
        if "wait" in vars(AsyncResult):
            self.patch(AsyncResult, "wait", vars(AsyncResult)["get"])
        self.after(AsyncResult, "_get_task_meta", self._asked)

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        begin = self.watch.guarded(self, self._begins)
        end = self.watch.guarded(self, self._ends)
        current = self.watch.current

        def waits(result: Any, *args: Any, **kwargs: Any) -> Any:
            run = current()
            if run is None or "waits" in run.marks:
                return function(result, *args, **kwargs)
            begin(run, result, sys._getframe(1))
            error: BaseException | None = None
            try:
                return function(result, *args, **kwargs)
            except BaseException as exc:
                error = exc
                raise
            finally:
                end(run, error)
                error = None

        waits.__name__, waits.__qualname__, waits.__doc__ = (
            function.__name__,
            function.__qualname__,
            function.__doc__,
        )
        return waits

    def _begins(self, run: Run, result: Any, frame: FrameType | None) -> None:
        user = self.watch.frames.user_frame(frame)
        if user is None or getattr(result, "ignored", False):
            return  # Celery itself, for a chord
        frames = self.watch.frames
        ids = [each.id for each in getattr(result, "results", None) or (result,) if getattr(each, "id", None)]
        run.marks["waits"] = ids, frames.stack(user)
        self._record(run, ids, frames.stack(user), time.monotonic())

    def _record(self, run: Run, ids: Iterable[str], evidence: list[str], since: float) -> None:
        self.watch.recorder.writer.write(
            "wait", t=since, id=run.id, task=run.task.name, on=list(ids), evidence=evidence
        )

    def _ends(self, run: Run, error: BaseException | None) -> None:
        waited = run.marks.pop("waits", None)
        if waited is None:
            return
        ids, evidence = waited
        self.watch.recorder.writer.write("waited", t=time.monotonic(), id=run.id)
        self._report(run, ids, evidence, refused=isinstance(error, RuntimeError) and _REFUSAL in str(error))

    def _report(self, run: Run, ids: list[str], evidence: list[str], *, refused: bool) -> None:
        pool = self.watch.pool.name
        lines = [*evidence, f"waits for {', '.join(ids[:5])}"]
        if refused:
            self.watch.report(
                REFUSED,
                run,
                f"it waited for the result of another task, which Celery refuses under {pool} with RuntimeError "
                "(gevent and eventlet allow it)",
                lines,
                "Let the tasks follow one another as a chain or a chord, or use self.replace().",
            )
        else:
            self.watch.report(
                ALLOWED,
                run,
                f"it keeps its slot while it waits for another task: once all slots of the {pool} worker do so, "
                "none can go on",
                lines,
                "Let the tasks follow one another as a chain or a chord, or give those that are waited for a worker "
                "of their own.",
            )

    # -- loops

    def _asked(self, meta: Any, result: Any, *_args: Any, **_kwargs: Any) -> None:
        """A task may be asking for the state of another one again and again."""
        run = self.watch.current()
        if run is None or "waits" in run.marks or result.id == run.id:
            return
        if meta.get("status") in ("SUCCESS", "FAILURE", "REVOKED"):
            polls = run.marks.get("polls")
            if polls is not None and polls.pop(result.id, (0, 0.0))[0] > _POLLS:
                self.watch.recorder.writer.write("waited", t=time.monotonic(), id=run.id)
            return
        user = self.watch.frames.user_frame(sys._getframe(1))
        if user is None:
            return
        polls = run.marks.setdefault("polls", {})
        now = time.monotonic()
        count, since = polls.get(result.id, (0, now))
        if count < _POLLS or now - since < _POLLING_S:
            # Not counted on before it has lasted.
            polls[result.id] = min(count + 1, _POLLS), since
        elif count == _POLLS:
            polls[result.id] = _POLLS + 1, since
            evidence = self.watch.frames.stack(user)
            self._record(run, [result.id], evidence, since)
            self._report(run, [result.id], evidence, refused=False)


class Heartbeats(Detector):
    """Compares how long a task keeps the worker's only thread with the heartbeat that its broker expects.

    Celery sends a broker's heartbeats (AMQP has them) from the loop that solo runs its tasks in.
    """

    kinds = (Kind("heartbeat-missed", "fail", "a task kept the worker from sending its broker's heartbeat"),)

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Return whether tasks run in the loop that sends heartbeats."""
        facts = watch.pool.facts
        return not (facts["forks"] or facts["preempts"] or facts["green"]) and ":" not in watch.pool.name

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._interval = 0.0
        self._controller: Any = None
        self.rest("started", "ended")

    def begin(self) -> None:
        """See the worker when it starts, under either launch."""
        from celery.worker.worker import WorkController

        self.before(WorkController, "start", self._starts)

    def _starts(self, controller: Any) -> None:
        self._controller = controller
        self.listen("started", "ended")

    def started(self, run: Run) -> None:
        """Note when a task begins, if anything was agreed with the broker."""
        if self._controller is not None:
            consumer, self._controller = self._controller.consumer, None
            if getattr(consumer, "amqheartbeat", 0) and consumer.connection.supports_heartbeats:
                self._interval = float(consumer.connection.get_heartbeat_interval() or 0)
        if self._interval:
            run.marks["heartbeat"] = time.monotonic()
        else:
            self.rest("started", "ended")

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Report a task that lasted longer than a broker waits: two intervals."""
        if "heartbeat" not in run.marks:
            return
        lasted = time.monotonic() - run.marks["heartbeat"]
        if lasted > 2 * self._interval:
            self.watch.report(
                "heartbeat-missed",
                run,
                f"it kept the {self.watch.pool.name} worker for {lasted:.2f} s, in which no heartbeat was sent; the "
                f"broker was promised one every {self._interval:g} s, takes the worker for dead after two and delivers "
                "what was not acknowledged again",
                [definition(run, self.watch.frames), f"heartbeat {self._interval:g} s, ran {lasted:.2f} s"],
                "Run long tasks under prefork or threads, or make broker_heartbeat longer than half of them.",
                key="heartbeat",
            )


class Questions(Detector):
    """Sees a task ask the worker itself a question, which a solo worker answers only once the task has ended."""

    kinds = (Kind("control-blocked", "fail", "a question to the worker was not answered while a task ran"),)

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether tasks run where control commands do."""
        return watch.pool.name == "solo"

    def begin(self) -> None:
        """Hear of every question."""
        from celery.app.control import Control

        self.after(Control, "broadcast", self._asked, in_task=True)

    def _asked(self, answer: Any, *_: Any, reply: bool = False, **__: Any) -> None:
        if not reply:
            return
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        if answer or run is None or frame is None:
            return
        self.watch.report(
            "control-blocked",
            run,
            "it asked the workers a question and got no answer: a solo worker answers none before its task has ended, "
            "so a task never hears of the worker that runs it",
            [*self.watch.frames.stack(frame), f"the answer was {answer!r}"],
            "do not rely on an answer (the task may run under solo), keep what runs in Redis or the database, or name "
            "another pool",
        )
