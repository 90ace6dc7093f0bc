"""What a project configures or asks for and the pool does not do: terminate, recycle, grow."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.alarm import Alarm, frame_of
from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.promises.configured import set_at
from pytest_celerypool.agent.detectors.promises.limits import definition
from pytest_celerypool.agent.handlers import Catcher, catcher

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: Seconds after which a task that was told to terminate and still runs is reported: it may be cleaning up.
_CLEANING_UP_S = 2.0

#: By name or by number, the signal on which billiard raises ``SoftTimeLimitExceeded`` in a child.
_SOFT = ("USR1", str(int(getattr(signal, "SIGUSR1", 0))))

#: The remote control commands that change the number of slots.
_SIZING = ("pool_grow", "pool_shrink")

#: The file by which the main process of prefork tells its children that the worker shuts down.
_STOPPING = "stopping"


class Told:
    """A task that was told to terminate: when, and where it was."""

    __slots__ = ("at", "caught", "evidence", "reported")

    def __init__(self, at: float, evidence: list[str], caught: str | None) -> None:
        self.at, self.evidence, self.caught = at, evidence, caught
        self.reported = False


class Revocations(Detector):
    """Sees whether a task that is revoked with ``terminate=True`` ends.

    The mark ``terminated`` of a run tells other detectors that it was told to end.
    """

    mark = "terminated"
    kinds = (Kind("revoke-ignored", "fail", "a task that was to be terminated ran on", 0.5, "s"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._forks = watch.pool.forks
        self._stopping = os.path.join(watch.folder, _STOPPING)
        self._alarm = Alarm(watch, lambda callback: watch.guarded(self, callback))

    def begin(self) -> None:
        """See revocations where they reach the task."""
        if self._forks:
            from billiard import common

            self.before(common, "maybe_setsignal", self._signalled)
        else:
            from celery.worker.request import Request

            self.before(Request, "terminate", self._terminates)

    def stopping(self) -> None:
        """Let the children know that what terminates them is not a revocation."""
        if self._forks:
            with open(self._stopping, "w"):
                pass

    def remove(self) -> None:
        """End."""
        self._alarm.end()
        super().remove()

    def _terminates(self, request: Any, _pool: Any = None, number: Any = None, **more: Any) -> None:
        run = next((run for run in self.watch.running() if run.id == request.id), None)
        if run is None or "terminated" in run.marks:
            return
        frame = frame_of(self.watch, run)
        handler = self._awaits_soft_limit(frame) if soft_signal(more.get("signal", number)) else None
        if handler is not None and self.watch.pool.green:
            self._softly(run, handler, frame)
        self._tell(run, frame)
        if handler is not None:
            run.marks["terminated"].evidence.append(handler)

    def _awaits_soft_limit(self, frame: FrameType | None) -> str | None:
        """Return the clause by which a task would catch ``SoftTimeLimitExceeded`` where it is now, by that name."""
        from billiard.exceptions import SoftTimeLimitExceeded

        caught = catcher(frame, SoftTimeLimitExceeded)
        return None if caught is None or caught.generic else self._place(caught)

    def _place(self, caught: Catcher) -> str:
        code = caught.frame.f_code
        return self.watch.frames.place_of(code.co_filename, caught.line, code.co_name)

    def _softly(self, run: Run, handler: str, frame: FrameType | None) -> None:
        """Tell of a task that awaits ``SoftTimeLimitExceeded`` of this signal, and gets something else."""
        pool = self.watch.pool.name
        self.watch.report(
            "revoke-ignored",
            run,
            f"it was revoked by SIGUSR1, which raises SoftTimeLimitExceeded under prefork: the {pool} pool raises "
            f"{self._raised().__name__} whatever the signal, so what the task does on the first is not done",
            [handler, *self.watch.frames.stack(None if frame is None else self.watch.frames.user_frame(frame))],
            "clean up in a finally clause, which every pool runs.",
            key="soft revoke",
        )

    def _signalled(self, *_args: Any, **_kwargs: Any) -> None:
        """Billiard is about to raise ``SystemExit`` in a child that was sent ``SIGTERM``."""
        run = self.watch.current()
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_name != "_shutdown_cleanup":
            frame = frame.f_back
        if run is not None and frame is not None and "terminated" not in run.marks:
            self._tell(run, frame.f_locals.get("frame"))

    def _tell(self, run: Run, frame: FrameType | None) -> None:
        frames = self.watch.frames
        user = frames.user_frame(frame) if frame is not None else None
        caught = catcher(frame, self._raised()) if self._raises() else None
        text = self._place(caught) if caught is not None and caught.generic else None
        run.marks["terminated"] = mark = Told(time.monotonic(), frames.stack(user), text)
        run.marks.setdefault("thread", originals.get_ident())
        self._alarm.at(
            mark.at + _CLEANING_UP_S,
            lambda: self._report(run, mark, "it still ran") if self._alarm.running(run) and self._lives() else None,
        )

    def _raises(self) -> bool:
        return self._forks or self.watch.pool.green

    def _raised(self) -> type[BaseException]:
        if self._forks:
            return SystemExit
        from greenlet import GreenletExit

        cls: type[BaseException] = GreenletExit
        return cls

    def _lives(self) -> bool:
        """Whether the worker is not shutting down, which ends tasks by the same means."""
        return not (self._forks and os.path.exists(self._stopping))

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Report a task that went on to its end."""
        mark = run.marks.get("terminated")
        if mark is not None and state is not None and self._lives():
            went_on = time.monotonic() - mark.at
            if self.watch.on("revoke-ignored") and went_on > self.watch.limit("revoke-ignored"):
                self._report(run, mark, f"it ended as {state}")

    def _report(self, run: Run, mark: Told, ended: str) -> None:
        if mark.reported:
            return
        mark.reported = True
        pool, went_on = self.watch.pool.name, time.monotonic() - mark.at
        why = (
            f"something in it swallowed the {self._raised().__name__} by which the {pool} pool ends a task"
            if self._raises()
            else f"the {pool} pool cannot end a running task"
        )
        evidence = [f"swallowed by {mark.caught}"] if mark.caught else []
        evidence += mark.evidence or [definition(run, self.watch.frames)]
        self.watch.report(
            "revoke-ignored",
            run,
            f"it was told to terminate and ran on: {why}, and {ended} {went_on:.2f} s later, "
            "although its caller has been told that it was revoked"
            if self._raises()
            else f"it was told to terminate and ran on: {why}, and {ended} {went_on:.2f} s later",
            [*evidence, f"{ended} {went_on:.2f} s after revoke(terminate=True)"],
            "Catch Exception and not BaseException, or raise again what ends the task."
            if self._raises()
            else "Let the task look at times whether it is to stop, or run it under prefork.",
            key="revoke",
        )


def soft_signal(given: Any) -> bool:
    """Whether a signal, given as a name or number, is the one on which prefork raises ``SoftTimeLimitExceeded``."""
    text = str(int(given)) if isinstance(given, int) else str(given).upper().removeprefix("SIG")
    return text in _SOFT


class Recycling(Detector):
    """Counts the tasks of a process that the project wants replaced after some, and that the pool never replaces."""

    kinds = (Kind("max-tasks-ignored", "fail", "a process ran more tasks, or grew larger, than it was to"),)

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Return whether the pool leaves its process as it is; of a custom one that is not known."""
        return not watch.pool.facts["replaces_children"] and ":" not in watch.pool.name

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._tasks: int | None = None
        self._kilobytes: int | None = None
        self._count = itertools.count(1)
        self._before = 0
        self.rest("ended")

    def begin(self) -> None:
        """See what the worker is configured with."""
        from celery.worker.worker import WorkController

        self.after(WorkController, "setup_defaults", self._configured)

    def _configured(self, _result: Any, controller: Any, *_args: Any, **_kwargs: Any) -> None:
        self._tasks = controller.max_tasks_per_child
        self._kilobytes = controller.max_memory_per_child
        if self._tasks or self._kilobytes:
            self.listen("ended")

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Count one more."""
        if self._tasks:
            count = next(self._count)
            if count == self._tasks + 1:
                self._report(
                    run,
                    f"worker_max_tasks_per_child is {self._tasks}, and process {os.getpid()} has run {count} tasks",
                    "worker_max_tasks_per_child",
                    self._tasks,
                )
        if self._kilobytes:
            used = self._used()
            if used > self._kilobytes >= self._before:
                self._before = used
                self._report(
                    run,
                    f"worker_max_memory_per_child is {self._kilobytes} KiB, and process {os.getpid()} uses {used} KiB",
                    "worker_max_memory_per_child",
                    self._kilobytes,
                )

    @staticmethod
    def _used() -> int:
        import psutil

        return int(psutil.Process().memory_info().rss) // 1024

    def _report(self, run: Run, fact: str, setting: str, value: int) -> None:
        pool, frames = self.watch.pool.name, self.watch.frames
        self.watch.report(
            "max-tasks-ignored",
            run,
            f"{fact}: the {pool} pool never replaces it, so that whatever the setting was to contain goes on",
            [f"defined at {definition(run, frames)}", *set_at(frames, run.task, setting, value), fact],
            "Run these tasks under prefork, or end the leak; the worker can also be restarted from outside.",
            key=setting,
        )


class Autoscaling(Detector):
    """Says that ``--autoscale``, or a remote control command, asks for what the pool cannot do."""

    kinds = (Kind("autoscale-ignored", "warn", "the worker is to grow and shrink, and its pool cannot"),)

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Return whether the pool may be one that cannot."""
        return not watch.pool.forks

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._controller: Any = None
        #: By command the task that has sent one, and the lines of evidence where it did.
        self._senders: dict[str, tuple[Run, list[str]]] = {}
        self.rest("started")

    def begin(self) -> None:
        """See the worker when it starts, under either launch, and the commands that it gets."""
        from celery.app.control import Control
        from celery.worker.worker import WorkController
        from kombu.pidbox import Node

        self.before(WorkController, "start", self._starts)
        self.before(Control, "broadcast", self._sends, in_task=True)
        self.before(Node, "dispatch", self._commanded)

    def _starts(self, controller: Any) -> None:
        if controller.autoscale:
            self._controller = controller
            self.listen("started")

    def _sends(self, _: Any, command: str, *__: Any, **___: Any) -> None:
        run = self.watch.current()
        if run is not None and command in _SIZING:
            self._senders[command] = run, self.watch.frames.stack(self.watch.frames.user_frame(), 4)

    def _commanded(self, node: Any, method: str, *_: Any, **__: Any) -> None:
        if method not in _SIZING or _is_sizable(node.state.consumer.pool):
            return
        run, lines = self._senders.pop(method, (None, []))
        pool = self.watch.pool.name
        self.watch.report(
            "autoscale-ignored",
            run,
            f"the worker was told to {method.replace('_', ' ')}, and the {pool} pool can neither grow nor shrink: the "
            "command fails in the worker, who sent it does not hear of that, and the slots stay as they are",
            [*lines, f"{method} came to the worker"],
            "Name the slots with --concurrency, or run prefork, gevent or eventlet.",
            key=method,
        )

    def started(self, run: Run) -> None:
        """Compare what was asked for with the pool that runs, with the first task."""
        controller, self._controller = self._controller, None
        self.rest("started")
        if controller is None or _is_sizable(controller.pool):
            return
        most, least = controller.autoscale[:2]
        text, pool = f"--autoscale={most},{least}", self.watch.pool.name
        self.watch.report(
            "autoscale-ignored",
            run,
            f"{text} was asked for, and the {pool} pool can neither grow nor shrink: it stays at its least, "
            "and the attempt to grow ends the worker",
            [text],
            "Name the slots with --concurrency, or run prefork, gevent or eventlet.",
            key=text,
        )


def _is_sizable(pool: Any) -> bool:
    return hasattr(pool, "grow") and hasattr(pool, "shrink")
