"""Ways a worker comes to life, behind one small protocol; one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pytest_celerypool.agent.loading import Source
from pytest_celerypool.pools import Pool
from pytest_celerypool.trace import TraceReader


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is asked to be. Tests whose specs are equal can share one.

    ``concurrency`` is ``None`` where Celery and the application decide; ``options`` are further words of the
    ``celery worker`` command line; ``databases`` are Django's aliases and the names of their test databases.
    """

    source: str
    pool: Pool
    concurrency: int | None
    options: tuple[str, ...] = ()
    launch: str = "subprocess"
    databases: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What a worker of any launch is given by the run.

    :ivar folder: a folder of the worker's own, for its log and trace.
    :ivar source: where the application comes from.
    :ivar target: the broker, backend and namespace of this worker (a :class:`~pytest_celerypool.broker.Target`).
    :ivar root: the project's root, which is put on the path.
    """

    folder: Path
    source: Source
    target: Mapping[str, Any]
    root: Path


class Launched(Protocol):
    """A worker that was started, seen from the process that started it."""

    spec: WorkerSpec
    target: Mapping[str, Any]
    reader: TraceReader
    #: What the agent said of the worker when it became ready; empty until then.
    info: dict[str, Any]

    @property
    def pid(self) -> int:
        """The process id of the worker's main process."""

    def wait_ready(self, meanwhile: Callable[[], None] = ...) -> None:
        """Wait until the worker consumes; raise :exc:`~pytest_celerypool.errors.WorkerError` if it never will."""

    def death(self) -> str | None:
        """Say how the worker ended, ``None`` while it lives."""

    def log_size(self) -> int:
        """The length of the log in bytes so far."""

    def log(self, start: int = 0) -> str:
        """The log from byte `start` on."""

    def stacks(self) -> str:
        """Where every slot is at this moment."""

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker."""

    def begin_stop(self) -> None:
        """Ask the worker to stop."""

    def end(self, grace: float) -> None:
        """Give the worker `grace` seconds to stop, then take it away with all its processes."""
