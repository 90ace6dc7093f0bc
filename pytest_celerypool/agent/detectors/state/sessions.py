"""Sessions of SQLAlchemy that tasks have in common: what one adds another writes, and what one breaks breaks another.

A session that lives as long as a thread (``scoped_session``) or the process keeps what a task added and did not commit,
and a transaction that failed and was not rolled back. Every greenlet has a ``scoped_session`` of its own. The events of
SQLAlchemy tell who adds and who writes, so nothing is searched for, and a session of one task alone is never told of:
https://docs.sqlalchemy.org/en/20/orm/session_events.html
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.state.changes import name_of
from pytest_celerypool.agent.frames import chain
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

LEFT = Kind("session-left", "fail", "a task left work in a database session, with which a later one goes on")
SHARED = Kind("transaction-shared", "fail", "tasks that run at once have one connection, and so one transaction")

_REMEDY = "Open the session in the task and close it there: with Session.begin() as session; or end each with remove()."

#: Objects that the evidence names.
_MOST = 8


class Sessions(Detector):
    """Notes which task adds an object to a session and which one writes it, and whose transactions fail."""

    kinds = (LEFT, SHARED)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        #: The task that added an object, and where, by SQLAlchemy's state of that object, until it is written.
        self._added: WeakKeyDictionary[Any, tuple[Run, list[str]]] = WeakKeyDictionary()
        #: The task during which a session's transaction failed, where, and in which thread.
        self._failed: WeakKeyDictionary[Any, tuple[Run, list[str], int]] = WeakKeyDictionary()
        self._listeners: list[tuple[Any, str, Callable[..., None]]] = []

    def begin(self) -> None:
        """Listen, if the application uses SQLAlchemy."""
        self.imported()

    def imported(self) -> None:
        """Listen once a task has imported it."""
        orm: Any = sys.modules.get("sqlalchemy.orm")
        if self._listeners or not hasattr(orm, "Session"):  # it may be half imported
            return
        for name, heed in (
            ("transient_to_pending", self._on_added),
            ("after_flush", self._on_written),
            ("after_soft_rollback", self._on_rolled_back),
        ):
            listener = self.watch.guarded(self, heed)
            sys.modules["sqlalchemy.event"].listen(orm.Session, name, listener)
            self._listeners.append((orm.Session, name, listener))

    def remove(self) -> None:
        """End, and listen no more."""
        for listener in self._listeners:
            sys.modules["sqlalchemy.event"].remove(*listener)
        self._listeners.clear()
        super().remove()

    # -- what SQLAlchemy tells

    def _on_added(self, _session: Any, instance: Any) -> None:
        run = self.watch.current()
        if run is not None:
            self._added[_state(instance)] = run, self._here()

    def _on_written(self, session: Any, _context: Any) -> None:
        """Tell of what another task has added; of no task, as in a receiver, it may be meant so."""
        run = self.watch.current()
        theirs: dict[str, list[Any]] = {}
        for instance in session.new:
            adder, _ = self._added.get(_state(instance), (None, []))
            if run is not None and adder is not None and adder is not run:
                theirs.setdefault(adder.id, []).append(instance)
        for instances in theirs.values():
            self._report_written(run, instances)
        for instance in session.new:
            self._added.pop(_state(instance), None)

    def _on_rolled_back(self, session: Any, _previous: Any) -> None:
        run = self.watch.current()
        if session.is_active:
            self._failed.pop(session, None)
        elif run is not None and session not in self._failed:
            self._failed[session] = run, self._here(), originals.get_ident()

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Tell of a transaction that failed in another task, if this one fails since nobody has rolled it back."""
        if not self._failed or exc is None:
            return
        for each in chain(exc):
            if type(each).__name__ == "PendingRollbackError":
                self._report_failed(run, each)
                return

    # -- reports

    def _report_written(self, run: Any, instances: list[Any]) -> None:
        adder, place = self._added[_state(instances[0])]
        what = ", ".join(_named(each) for each in instances[:_MOST])
        pool, beside = self.watch.pool.name, any(each is adder for each in self.watch.running())
        message = (
            f"what it added to a session of SQLAlchemy ({what}) was written by {name_of(run)}, which runs at the same "
            f"time: under {pool} tasks of one process have that session in common, so a commit or rollback of one is "
            "that of all, in the middle of what the others do"
            if beside
            else f"it left {what} in a session of SQLAlchemy when it ended, neither committed nor rolled back; "
            f"{name_of(run)} has the same session and wrote it"
        )
        self.watch.report(
            (SHARED if beside else LEFT).name,
            adder,
            message,
            [
                *place,
                f"added by {name_of(adder)}",
                *(f"written by {name_of(run)}: {line}" for line in self._here()[:1]),
            ],
            _REMEDY,
            others=[run],
        )

    def _report_failed(self, run: Run, exc: BaseException) -> None:
        failed = [each for session, each in list(self._failed.items()) if not session.is_active]
        left = [each for each in failed if each[0] is not run]
        # Celery has cleared the frames that the exception went through: whose session it was they tell no more.
        if len(left) > 1:
            left = [each for each in left if each[2] == originals.get_ident()]
        if len(left) != 1:
            return
        ((breaker, place, _),) = left
        self.watch.report(
            LEFT.name,
            breaker,
            f"it left a failed transaction in a session of SQLAlchemy, not rolled back; {name_of(run)} has the same "
            "session and fails for that, as will every other task until somebody calls rollback()",
            [
                *place,
                f"failed in {name_of(breaker)}",
                *(f"{name_of(run)}: {line}" for line in self.watch.frames.raised_places(exc)[:1]),
            ],
            _REMEDY,
            others=[run],
        )

    def _here(self) -> list[str]:
        frames = self.watch.frames
        frame = frames.user_frame()
        return [] if frame is None else frames.stack(frame, 4)


def _state(instance: Any) -> Any:
    """Return SQLAlchemy's own record of an object: it can be hashed, whatever the object's class says."""
    return instance._sa_instance_state


def _named(instance: Any) -> str:
    return f"a {type(instance).__name__}"
