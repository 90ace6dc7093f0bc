"""Time limits that nothing enforced: the pool has none, or the task swallowed the exception that ends it."""

from __future__ import annotations

import inspect
import time
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.alarm import Alarm, frame_of
from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.promises.configured import set_at
from pytest_celerypool.agent.handlers import Catcher, catcher

if TYPE_CHECKING:
    from pytest_celerypool.agent.frames import Frames
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

HARD, SOFT, SWALLOWED = "time-limit-ignored", "soft-limit-ignored", "soft-limit-swallowed"

#: Seconds after its limit at which a task that still runs is looked at where the pool does raise something: it may be
#: cleaning up.
_CLEANING_UP_S = 2.0


def definition(run: Run, frames: Frames) -> str:
    """Return where a task is defined: its decorator's line."""
    code = getattr(inspect.unwrap(run.task.run), "__code__", None)
    if code is None:
        return f"{run.task.name} ({type(run.task).__qualname__})"
    return frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)


def limits_of(run: Run) -> tuple[float | None, float | None]:
    """Return the hard and the soft time limit of a task in seconds, as its message or else its definition has them."""
    hard, soft = run.limits or (None, None)
    return hard or run.task.time_limit, soft or run.task.soft_time_limit


class Limited:
    """The limits of one execution.

    :ivar started: monotonic seconds.
    :ivar seen: what was seen of it after each limit had passed, by kind.
    """

    __slots__ = ("hard", "reported", "seen", "soft", "started")

    def __init__(self, hard: float | None, soft: float | None, started: float) -> None:
        self.hard, self.soft, self.started = hard, soft, started
        self.seen: dict[str, list[str]] = {}
        self.reported: set[str] = set()


class Interrupted:
    """Where a task was when prefork raised ``SoftTimeLimitExceeded`` in it."""

    __slots__ = ("at", "caught", "evidence", "reported")

    def __init__(self, at: float, evidence: list[str], caught: str | None) -> None:
        self.at, self.evidence, self.caught = at, evidence, caught
        self.reported = False


class Limits(Detector):
    """Compares how long tasks run with the limits that they have.

    prefork enforces both limits, so that there only a task can ignore one: by catching what the soft limit raises. For
    the other pools a task that has limits is looked at when they have passed.
    """

    mark = "limits"
    kinds = (
        Kind(HARD, "fail", "a hard time limit passed and the task ran on", 0.25, "s"),
        Kind(SOFT, "fail", "a soft time limit passed and nothing was raised", 0.25, "s"),
        Kind(SWALLOWED, "fail", "SoftTimeLimitExceeded was raised, and the task swallowed it", 0.25, "s"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._hard: float | None = None
        self._soft: float | None = None
        self._forks = watch.pool.forks
        self._enforced = bool(watch.pool.facts["enforces_hard_time_limit"])
        self._alarm = Alarm(watch, lambda callback: watch.guarded(self, callback))
        if self._forks:
            self.rest("started")

    def begin(self) -> None:
        """See the limits of the whole worker, and where prefork's signal finds a task."""
        if self._forks:
            from billiard import pool

            handler = pool.soft_timeout_sighandler

            def soft_timeout_sighandler(signum: int, frame: FrameType | None) -> Any:
                interrupted(frame)
                return handler(signum, frame)

            interrupted = self.watch.guarded(self, self._interrupted)
            self.patch(pool, "soft_timeout_sighandler", soft_timeout_sighandler)
        else:
            from celery.worker.worker import WorkController

            self.after(WorkController, "setup_defaults", self._configured)

    def _configured(self, _result: Any, controller: Any, *_args: Any, **_kwargs: Any) -> None:
        self._hard, self._soft = controller.time_limit, controller.soft_time_limit

    def remove(self) -> None:
        """End."""
        self._alarm.end()
        super().remove()

    # -- the life of a task

    def started(self, run: Run) -> None:
        """Note the limits of a task that has any."""
        hard, soft = limits_of(run)
        hard, soft = hard or self._hard, soft or self._soft
        if hard or soft:
            self._limit(run, Limited(hard, soft, time.monotonic()))

    def _limit(self, run: Run, limited: Limited) -> None:
        run.marks["limits"] = limited
        run.marks["thread"] = originals.get_ident()
        for kind, limit in ((SOFT, limited.soft), (HARD, limited.hard)):
            if limit and self.watch.on(kind):
                moment = limited.started + limit + self.watch.limit(kind)
                self._alarm.at(moment, partial(self._passed, run, kind))
        if limited.hard and self._enforced:
            moment = limited.started + limited.hard + max(_CLEANING_UP_S, limited.hard)
            self._alarm.at(moment, lambda: self._report(run, HARD) if self._alarm.running(run) else None)

    def _passed(self, run: Run, kind: str) -> None:
        """Look where a task is whose limit has passed."""
        if not self._alarm.running(run):
            return
        limited: Limited = run.marks["limits"]
        frame = frame_of(self.watch, run)
        user = self.watch.frames.user_frame(frame) if frame is not None else None
        place = self.watch.frames.place(user)
        limited.seen[kind] = [place, *(line for line in self.watch.frames.stack(user)[1:] if line != place)]
        if kind == HARD and self._enforced:
            caught = catcher(user, _gevent_timeout()) if self.watch.pool.green else None
            if caught is not None and caught.generic:
                limited.seen[kind].append(self._caught(caught))
            return
        self._report(run, kind)

    def _caught(self, caught: Catcher) -> str:
        code = caught.frame.f_code
        return f"caught by {self.watch.frames.place_of(code.co_filename, caught.line, code.co_name)}"

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Report a limit that the task outran."""
        if self._forks:
            mark = run.marks.get("soft")
            if mark is not None:
                self._ended_after_soft(run, mark, state, exc)
            return
        limited = run.marks.get("limits")
        if limited is None:
            return
        elapsed = time.monotonic() - limited.started
        for kind, limit in ((SOFT, limited.soft), (HARD, limited.hard)):
            # A task that the pool ended is left by gevent's Timeout, and may have cleaned up for long.
            kept = kind == HARD and self._enforced and state is None
            if limit and not kept and elapsed > limit + self._slack(kind):
                self._report(run, kind)

    def _slack(self, kind: str) -> float:
        return self.watch.limit(kind) if self.watch.on(kind) else float("inf")

    def _report(self, run: Run, kind: str) -> None:
        limited: Limited = run.marks["limits"]
        if kind in limited.reported:
            return
        limited.reported.add(kind)
        pool = self.watch.pool.name
        limit = limited.hard if kind == HARD else limited.soft
        ran = f"{time.monotonic() - limited.started:.2f} s after its start"
        ended = "it still ran" if self._alarm.running(run) else "it ended"
        if kind == SOFT:
            message = (
                f"its soft time limit of {limit:g} s passed and SoftTimeLimitExceeded was never raised, since the "
                f"{pool} pool knows no soft limits: whatever the task does on it is not done"
            )
            remedy = "Run the task under prefork, or let it look at the clock itself."
        elif self._enforced:
            message = (
                f"its hard time limit of {limit:g} s passed and it ran on: "
                + (
                    "it kept the hub, and could not be interrupted"
                    if getattr(run, "hold", 0.0) > (limit or 0.0) * 0.8
                    else f"it swallowed the exception by which the {pool} pool ends a task"
                )
                + ", so that one that hangs keeps its slot for ever"
            )
            remedy = "Catch Exception and not BaseException, and let the task yield."
        else:
            message = (
                f"its hard time limit of {limit:g} s passed and it ran on, since the {pool} pool enforces none: "
                "one that hangs keeps its slot for ever"
            )
            remedy = "Run the task under prefork, or give every wait in it a timeout of its own."
        seen = limited.seen.get(kind, [])
        where = definition(run, self.watch.frames)
        option = "time_limit" if kind == HARD else "soft_time_limit"
        lines = set_at(self.watch.frames, run.task, f"task_{option}", limit, option=option)
        self.watch.report(
            kind,
            run,
            message,
            [
                *(seen or [where]),
                *([f"defined at {where}"] if seen else []),
                *lines,
                f"limit {limit:g} s, {ended} {ran}",
            ],
            remedy,
            key=f"{limit:g} s",
        )

    # -- prefork: raised, and swallowed

    def _interrupted(self, frame: FrameType | None) -> None:
        """The signal of a soft limit is about to raise its exception in `frame`."""
        run = self.watch.current()
        if run is None:
            return
        from billiard.exceptions import SoftTimeLimitExceeded

        frames = self.watch.frames
        user = frames.user_frame(frame) if frame is not None else None
        caught = catcher(frame, SoftTimeLimitExceeded)
        mark = Interrupted(
            time.monotonic(), frames.stack(user), self._caught(caught) if caught and caught.generic else None
        )
        run.marks["soft"], run.marks["limits"] = mark, None
        if mark.caught is not None:
            self._alarm.at(
                mark.at + _CLEANING_UP_S,
                lambda: self._report_swallowed(run, mark, "it still ran") if self._alarm.running(run) else None,
            )

    def _ended_after_soft(self, run: Run, mark: Interrupted, state: str | None, exc: BaseException | None) -> None:
        from billiard.exceptions import SoftTimeLimitExceeded

        went_on = time.monotonic() - mark.at
        if mark.caught is None or went_on <= self._slack(SWALLOWED) or state not in ("SUCCESS", "FAILURE"):
            return
        while exc is not None:
            if isinstance(exc, SoftTimeLimitExceeded):
                return
            exc = exc.__cause__ or exc.__context__
        self._report_swallowed(run, mark, f"it ended as {state}")

    def _report_swallowed(self, run: Run, mark: Interrupted, ended: str) -> None:
        if mark.reported:
            return
        mark.reported = True
        went_on = time.monotonic() - mark.at
        self.watch.report(
            SWALLOWED,
            run,
            f"SoftTimeLimitExceeded was raised in it, a clause that catches everything swallowed it, and the "
            f"task went on: {ended} {went_on:.2f} s later, so that its soft limit ends nothing",
            [
                mark.caught or "",
                f"raised at {mark.evidence[0]}" if mark.evidence else "raised outside of the project's own code",
                *mark.evidence[1:],
                f"{ended} {went_on:.2f} s after the limit",
            ],
            "Catch SoftTimeLimitExceeded before Exception, and let the task end.",
            key=mark.caught or "",
        )


def _gevent_timeout() -> type[BaseException]:
    from gevent import Timeout

    cls: type[BaseException] = Timeout
    return cls
