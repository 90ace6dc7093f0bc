"""Tasks that leave their slot in a way of which their caller never hears, and those that end their worker."""

from __future__ import annotations

import _thread
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent import storing
from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.promises.limits import definition, limits_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: Signals that end a worker, or begin its shutdown.
_ENDING = {
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGKILL", "SIGABRT", "SIGHUP", "SIGSEGV", "SIGBUS")
    if hasattr(signal, name)
}

#: Others that end a process, as long as nobody in it has a handler for them.
_DEADLY = {getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE") if hasattr(signal, name)}

INSTEAD = "Let the task fail with an exception; restart workers from outside, or by app.control."


class Endings(Detector):
    """Sees what leaves a slot that is no ``Exception``, and calls that end the process."""

    kinds = (
        Kind("task-lost", "fail", "a task ended and its caller never hears"),
        Kind("worker-died", "fail", "a task ended the whole worker"),
        Kind("child-died", "warn", "a task ended the child process that it ran in"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._pid = os.getpid()
        self._main = os.getpid()
        self._ends = False

    def begin(self) -> None:
        """See the calls that end this process."""
        self.before(os, "_exit", self._exits)
        self.before(os, "abort", lambda: self._exits("SIGABRT"))
        self.before(os, "kill", self._kills)
        self.before(signal, "raise_signal", lambda number: self._kills(os.getpid(), number))
        self.before(_thread, "interrupt_main", self._interrupts)
        if hasattr(os, "killpg"):
            self.before(os, "killpg", lambda group, number: self._kills(-group, number))

    def forked(self) -> None:
        """Go on in a child of prefork."""
        self._pid = os.getpid()

    def stopping(self) -> None:
        """The worker ends its tasks by itself from now on."""
        self._ends = True

    # -- tasks that are lost

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Report an exit of which a pool tells nobody, and a failure that ends the worker."""
        if state == "FAILURE" and isinstance(exc, MemoryError):
            self._fails_worker(run, exc)
        if state is not None:
            return
        if isinstance(exc, Exception):
            self._cannot_be_stored(run, exc)
            return
        if self._ends or self.watch.pool.facts["reports_system_exit"]:
            return
        if exc is None or "terminated" in run.marks or _is_hard_limit(run, exc):
            return  # ended from outside, and told so
        pool, name = self.watch.pool.name, type(exc).__name__
        places = self.watch.frames.raised_places(exc)
        if not places and name == "GreenletExit":
            return  # killed from outside
        effect = (
            "the worker ends with it, and whoever waits for the result waits for ever"
            if pool == "solo"
            else f"the {pool} pool drops it silently, and whoever waits for the result waits for ever"
        )
        self.watch.report(
            "task-lost",
            run,
            f"it was left by {name}, which is no Exception: {effect}",
            [*(places or [definition(run, self.watch.frames)]), f"raised {exc!r}"],
            "Raise an Exception to end a task, or return.",
        )

    def _cannot_be_stored(self, run: Run, exc: Exception) -> None:
        """Report a task of which neither the result nor the failure can be encoded for the result backend.

        With ``result_extended`` what is stored has the task's arguments in it, whose message may have had another
        serializer.
        """
        if storing.cannot_be_stored(exc):
            self.watch.report(
                "task-lost",
                run,
                "neither what it returned nor that it failed can be stored in the result backend, under any pool: "
                "whoever waits for the result waits for ever",
                [definition(run, self.watch.frames), f"raised {exc!r}"],
                "Return and take what result_serializer can encode, or switch result_extended off: with it the "
                "arguments are stored too.",
            )

    def _fails_worker(self, run: Run, exc: MemoryError) -> None:
        """Report a failure that Celery raises once more, where the worker hears of it.

        ``celery.worker.request.Request.on_failure`` does that with this one; with callers of its own, as the threads
        of a pool and greenlets are, it goes no further (celery/celery#10462).
        """
        pool = self.watch.pool
        if not pool.forks and pool.name != "solo":
            return
        self.watch.report(
            "worker-died",
            run,
            f"it failed with {type(exc).__name__}, which Celery raises again in the worker's main process: under "
            f"{pool.name} that ends the whole worker, and whatever else it had to do is left to nobody",
            [*(self.watch.frames.raised_places(exc) or [definition(run, self.watch.frames)]), f"raised {exc!r}"],
            "Catch MemoryError in the task and raise another exception instead.",
        )

    # -- workers that die

    def _task(self) -> Run | None:
        """Return the task that calls, unless this is a process that it forked itself."""
        return self.watch.current() if os.getpid() == self._pid else None

    def _exits(self, status: Any = 0) -> None:
        run = self._task()
        if run is not None:
            self._report(run, f"called os._exit({status!r})" if status != "SIGABRT" else "called os.abort()")

    def _kills(self, pid: int, number: int) -> None:
        run = self._task()
        deadly = number in _DEADLY and pid == self._pid and signal.getsignal(number) is signal.SIG_DFL
        if run is None or (number not in _ENDING and not deadly):
            return
        if pid in (self._pid, 0, -os.getpgrp()) or (pid == self._main and pid != self._pid):
            # Somebody may have put a handler of the user's in place, for this moment only.
            handler = signal.getsignal(number) if pid == os.getpid() else None
            code = getattr(handler, "__code__", None)
            if code is None or not self.watch.frames.is_user(code.co_filename):
                whose = "its own process" if pid == self._pid else "the worker"
                self._report(run, f"sent {signal.Signals(number).name} to {whose}", main=pid != self._pid)

    def _interrupts(self, *_: Any) -> None:
        """Somebody is about to raise ``KeyboardInterrupt`` where the worker runs; mostly it is a timer of a task's."""
        running = self.watch.running()
        run = self._task() or (running[0] if len(running) == 1 else None)
        if run is not None and not self.watch.pool.forks:
            self._report(run, "called _thread.interrupt_main()")

    def _report(self, run: Run, what: str, *, main: bool = False) -> None:
        pool = self.watch.pool
        user = self.watch.frames.user_frame(sys._getframe(1))
        evidence = [*(self.watch.frames.stack(user) or [definition(run, self.watch.frames)]), f"process {os.getpid()}"]
        if pool.forks and not main:
            self.watch.report(
                "child-died",
                run,
                f"it {what}: under {pool.name} that ends the child process that it runs in and only this task fails, "
                "under a pool without children it ends the whole worker",
                evidence,
                INSTEAD,
            )
            return
        others = [other for other in self.watch.running() if other is not run]
        rest = f", and {len(others)} other tasks that run in it" if others else ""
        self.watch.report(
            "worker-died",
            run,
            f"it {what}: under {pool.name} that ends the whole worker{rest}",
            [*evidence, *(f"{other.task.name}[{other.id}] ran in it too" for other in others[:5])],
            INSTEAD,
            others=others,
        )


def _is_hard_limit(run: Run, exc: BaseException) -> bool:
    """Whether gevent's pool has ended a task by its hard time limit: a ``Timeout`` of the task's own is none."""
    hard, _ = limits_of(run)
    return hard is not None and type(exc).__module__ == "gevent.timeout" and exc.seconds == hard  # type: ignore[attr-defined]
