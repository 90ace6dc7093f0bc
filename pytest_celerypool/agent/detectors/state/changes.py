"""What a change of state is that tasks share, and how one that was left is reported."""

from __future__ import annotations

import reprlib
import sys
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

CHANGED = Kind("state-changed", "fail", "a task changed state of the process while other tasks ran in it")
LEFT = Kind("state-left", "warn", "a task left state changed which the next task gets")

#: Where the changes that a run makes are kept among its marks.
MARK = "state"

_texts = reprlib.Repr()
_texts.maxstring = _texts.maxother = 60


def text_of(value: Any) -> str:
    """Return a short text of any value; a ``__repr__`` that raises spoils nothing."""
    return _texts.repr(value[: _texts.maxstring] if isinstance(value, bytes) else value)


@dataclass(frozen=True)
class Subject:
    """A piece of state.

    :ivar key: tells it from every other.
    :ivar label: how a message names it.
    :ivar scope: who shares it: all tasks of the process, those of one thread, or those that follow in one slot.
    :ivar grade: what a change does to tasks that run meanwhile and have not set it themselves: ``shared``: it hurts if
        it was meant for a while only, ``strict``: also if it stays, ``read``: only those that have read it, ``own``:
        they do not mind.
    :ivar show: makes the text of a value.
    :ivar group: what subjects have in common that tasks change instead of one another, as the handlers of one logger.
    """

    key: Hashable
    label: str
    remedy: str
    scope: Literal["process", "thread", "slot"] = "process"
    grade: Literal["shared", "strict", "read", "own"] = "shared"
    show: Callable[[Any], str] = text_of
    group: Hashable = None

    @property
    def common(self) -> Hashable:
        """What a task has set that has set this or another of its group."""
        return self.key if self.group is None else self.group


@dataclass(eq=False)
class Change:
    """A change of a subject by a run, until it is put back.

    :ivar since: monotonic seconds.
    :ivar stack: places, that of the user's line first.
    :ivar ran: the runs that are known to have run since, by their ids.
    :ivar spared: the ids of runs whose own code had returned when it was made: Celery was storing their results.
    :ivar waiting: the ids of runs that still run after its own has ended.
    :ivar gone: whether somebody else has set the subject to something else since.
    """

    subject: Subject
    run: Run
    original: Any
    value: Any
    since: float
    stack: list[str]
    ran: dict[str, Run] = field(default_factory=dict)
    clocks: dict[str, float] = field(default_factory=dict)
    left: bool = False
    spared: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    gone: bool = False

    @property
    def texts(self) -> tuple[str, str]:
        """What it was before and is now."""
        show = self.subject.show
        return show(self.original), show(self.value)


@dataclass(eq=False)
class Doings:
    """What one run did to state: its changes that stand, and when it last set or read which subject."""

    changes: dict[Hashable, Change] = field(default_factory=dict)
    sets: dict[Hashable, tuple[Any, float]] = field(default_factory=dict)
    reads: dict[Hashable, float] = field(default_factory=dict)
    heir_of: list[Change] = field(default_factory=list)


@dataclass(eq=False)
class Closed:
    """A change that was put back, and the runs that ran meanwhile and may yet set the same for themselves."""

    change: Change
    exposed: dict[str, Run]
    end: str

    def spares(self, subject: Subject, run: Run) -> bool:
        """A run sets a subject: take it out, and return whether nobody is left."""
        if subject.common == self.change.subject.common:
            self.exposed.pop(run.id, None)
        return not self.exposed


def report_left(
    watch: Watch, run: Run, subject: Subject, old: str, new: str, stack: list[str], heir: Run | None
) -> None:
    """Report that a run left a subject changed.

    :param old: the text of what it was.
    :param stack: places, the user's line first.
    :param heir: a run that got it, and set nothing of its own.
    """
    if heir is None and _is_last():
        return
    where = "every task of this process" if subject.scope == "process" else "the next task in this slot"
    if watch.pool.forks and subject.scope == "process":
        where = "the next task in this child process"
    got = f"{name_of(heir)} got it" if heir is not None else f"{where} gets it"
    watch.report(
        LEFT.name,
        run,
        f"left {subject.label} changed from {old} to {new} when it ended; {got}",
        [
            *stack,
            f"{subject.label}: {old} -> {new}, not put back when the task ended",
            f"by {name_of(run)}",
            *([] if heir is None else [f"{name_of(heir)} began with it, and did not set it itself"]),
        ],
        subject.remedy,
        others=() if heir is None else (heir,),
    )


def _is_last() -> bool:
    """Whether this is a child of prefork that is replaced after each task, so that no other gets what that leaves."""
    from billiard.process import current_process

    return getattr(getattr(current_process(), "_target", None), "maxtasks", None) == 1


def name_of(run: Run) -> str:
    """Return how evidence names a run."""
    return f"{run.task.name}[{run.id[:8]}]"


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; a comparison that raises says that they are not."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - a comparison of the user's
        return False


def cpu_of(run: Run) -> float:
    """Return the processor time that the thread of a run has used, in seconds; 0 where the system does not tell.

    Linux makes the number of a thread's clock of the thread's own: ``CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED`` are the
    lowest bits (include/linux/posix-timers_types.h). ``pthread_getcpuclockid`` does the same, but may be asked for a
    thread only as long as that lives.
    """
    if run.thread is None or sys.platform != "linux":
        return 0.0
    try:
        return time.clock_gettime(~run.thread << 3 | 6)
    except OSError:  # the thread has ended
        return 0.0
