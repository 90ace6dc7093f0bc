"""Ways a worker comes to life, behind one small protocol, one file each; and what they share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pytest_celerypool.agent.loading import Source
from pytest_celerypool.errors import WorkerError
from pytest_celerypool.pools import Pool
from pytest_celerypool.trace import TraceReader
from pytest_celerypool.waiting import Histories

#: How long processes may take to collect their garbage. The main thread does it: a task that keeps it keeps that too.
_COLLECT_S = 2.0
#: How long a process may take to say where it is. Its main thread does it; one that C code keeps tells of itself alone.
_STACKS_S = 0.5


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is asked to be. Tests whose specs are equal can share one.

    ``concurrency`` is ``None`` where Celery and the application decide; ``options`` are further words of the
    ``celery worker`` command line; ``databases`` are Django's aliases and the names of their test databases; ``name``
    is what a cluster calls it.
    """

    source: str
    pool: Pool
    concurrency: int | None
    options: tuple[str, ...] = ()
    launch: str = "subprocess"
    databases: tuple[tuple[str, str], ...] = ()
    name: str = ""

    @property
    def title(self) -> str:
        """What messages call such a worker."""
        return f"{self.pool} worker {self.name!r}" if self.name else f"{self.pool} worker"


@dataclass(frozen=True)
class Surroundings:
    """What a worker of any launch is given by the run.

    :ivar folder: a folder of the worker's own, for its log and trace.
    :ivar source: where the application comes from.
    :ivar target: the broker, backend and namespace of this worker (a :class:`~pytest_celerypool.broker.Target`).
    :ivar root: the project's root, which is put on the path.
    :ivar detection: what the agent needs to run detectors; ``None``: it runs none.
    """

    folder: Path
    source: Source
    target: Mapping[str, Any]
    root: Path
    detection: Mapping[str, Any] | None = None


class Launched(Protocol):
    """A worker that was started, seen from the process that started it."""

    spec: WorkerSpec
    target: Mapping[str, Any]
    reader: TraceReader
    #: What the agent said of the worker when it became ready; empty until then.
    info: dict[str, Any]
    #: What it recorded before it was ready, which is of its first test. After a restart, or in a cluster, tasks may be
    #: among it: a worker may run what was queued before Celery calls it ready (on RabbitMQ, under all but prefork).
    early: list[dict[str, Any]]
    #: For how long its slots have waited for a processor.
    slot_histories: Histories
    #: Whether the trace has the publications of the test itself.
    records_publications: bool

    @property
    def pid(self) -> int:
        """The process id of the worker's main process."""

    @property
    def main_thread(self) -> tuple[int, int]:
        """Process id and thread id of the thread that receives messages."""

    def poll_ready(self) -> bool:
        """Whether the worker is ready, without waiting."""

    def wait_ready(self, meanwhile: Callable[[], None] = ...) -> None:
        """Wait until the worker consumes; raise :exc:`~pytest_celerypool.errors.WorkerError` if it never will."""

    def death(self) -> str | None:
        """Say how the worker ended, ``None`` while it lives."""

    def death_notice(self, start: int) -> str:
        """Say how the worker ended, with the end of the log from byte `start` on; empty while it lives."""

    def log_size(self) -> int:
        """The length of the log in bytes so far."""

    def log(self, start: int = 0) -> str:
        """The log from byte `start` on."""

    def stacks(self) -> str:
        """Where every slot is at this moment."""

    def answers(self) -> bool:
        """Whether the main thread of its main process runs Python, and so the agent in it."""

    def processes(self) -> list[int]:
        """The process ids of the worker: its main process, its children and theirs."""

    def memory(self) -> int | None:
        """Bytes that only the worker's processes use, ``None`` if the system does not tell."""

    def memory_by_process(self) -> Memory | None:
        """The same, process by process."""

    def collect_garbage(self) -> bool:
        """Have the worker's processes collect their garbage; returns whether all have."""

    def learn(self) -> bool:
        """Let the worker know tasks that were registered since it started; returns whether it can."""

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker."""

    def pause(self) -> None:
        """Halt a worker that is starting."""

    def resume(self) -> None:
        """Let a halted worker go on."""

    def restart(self) -> None:
        """Start again in the same namespace; to be called when it ended."""

    def begin_stop(self) -> None:
        """Ask the worker to stop."""

    def close(self) -> None:
        """Let go of what outlives the end of the worker, since it may start again until now."""

    def end(self, grace: float) -> None:
        """Give the worker `grace` seconds to stop, then take it away with all its processes."""


class WithLog:
    """A worker that logs to a file."""

    _log: Path

    def log_size(self) -> int:
        """The length of the log in bytes so far."""
        return self._log.stat().st_size

    def log(self, start: int = 0) -> str:
        """The log from byte `start` on."""
        with self._log.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")


def check_worker(info: Mapping[str, Any], spec: WorkerSpec, target: Mapping[str, Any]) -> None:
    """Compare what a worker says of itself with what it was asked to be.

    :raises WorkerError: it runs another pool, or talks to another server.
    """
    wanted = spec.pool.path
    if info["pool"] != wanted:
        named = f" {spec.name!r}" if spec.name else ""
        raise WorkerError(
            f"the worker{named} was asked to run the pool {spec.pool} ({wanted}) and runs {info['pool']}. "
            "Something in the application chooses the pool itself (worker_pool, or a signal receiver)."
        )
    for name, url in (("read", target["broker_url"]), ("write", target["broker_url"])):
        if url is not None and not same_server(info[name], url):
            raise WorkerError(
                f"the {spec.title} would {name} at {info[name]} instead of the run's broker {url}; "
                "it was stopped before it consumed anything of yours. "
                "Something sets the broker after the application is configured."
            )


def same_server(found: str, wanted: str) -> bool:
    """Whether the URL that Celery shows is the server of the URL that it was given (passwords are masked)."""
    return _server(found) == _server(wanted)


_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671, "sentinel": 26379}


def _server(url: str) -> tuple[str, int | None, str]:
    """Return host, port and path of a URL, the defaults of Redis and RabbitMQ filled in."""
    from urllib.parse import unquote, urlsplit

    scheme, _, rest = url.partition("://")
    if scheme.endswith("socket"):
        return "", None, unquote(rest.partition("?")[0]).strip("/")
    parts = urlsplit(f"//{rest}")
    default = "0" if scheme.startswith("redis") else ""
    return parts.hostname or "localhost", parts.port or _PORTS.get(scheme), unquote(parts.path).strip("/") or default


class Memory(NamedTuple):
    """What processes of workers use.

    :ivar used: process id to the bytes that only this process uses (unique set size).
    :ivar own: the processes that are Celery's: main ones and children of pools. Others were started by tasks.
    """

    used: Mapping[int, int]
    own: frozenset[int]


def memory_of(pids: Iterable[int], is_own: Callable[[int], bool]) -> Memory | None:
    """Return what these processes use, ``None`` if the system does not tell.

    :param is_own: whether a process is one of Celery's.
    """
    import psutil

    used = {}
    for pid in pids:
        try:
            used[pid] = int(psutil.Process(pid).memory_full_info().uss)
        except psutil.NoSuchProcess:
            continue
        except (psutil.AccessDenied, AttributeError):
            return None
    return Memory(used, frozenset(filter(is_own, used))) if used else None


def growth(before: Memory, after: Memory) -> int | None:
    """Return by how many bytes more is used, ``None`` where nobody can tell.

    That is where a process of a pool has ended, which took with it what it had grown by, or has begun, which brought
    with it what any has. What a task started and left running counts in full, what has ended is no gain.
    """
    if before.own != after.own:
        return None
    return sum(after.used.values()) - sum(used for pid, used in before.used.items() if pid in after.used)


def collect_garbage_of(folder: Path, pids: Iterable[int]) -> bool:
    """Have processes in which a :class:`~pytest_celerypool.agent.garbage.Collector` answers collect their garbage.

    :returns: whether all of these have, within :data:`_COLLECT_S` seconds; others have no garbage of Python's.
    """
    from pytest_celerypool.agent.garbage import SIGNAL, answers

    waiting: dict[str, int] = {}
    for pid in pids:
        path = answers(str(folder), pid)
        try:
            waiting[path] = os.stat(path).st_size
            os.kill(pid, SIGNAL)
        except (FileNotFoundError, ProcessLookupError):  # it does not answer, or has ended
            waiting.pop(path, None)
    deadline = time.monotonic() + _COLLECT_S
    while waiting and time.monotonic() < deadline:
        waiting = {path: before for path, before in waiting.items() if os.stat(path).st_size == before}
        time.sleep(0.001)
    return not waiting


def stacks_of(folder: Path, pids: Iterable[int]) -> str:
    """Ask processes whose :class:`~pytest_celerypool.agent.stacks.StackWriter` writes to `folder` where they are."""
    from pytest_celerypool.agent.stacks import shorten

    found = ((pid, _asked(folder, pid)) for pid in pids)
    return "\n".join(f"process {pid}:\n{shorten(answer)}" for pid, answer in found if answer is not None)


def runs_python(folder: Path, pid: int) -> bool:
    """Whether the main thread of a process answers from Python within half a second; true if it cannot be asked."""
    from pytest_celerypool.agent.stacks import is_whole

    answer = _asked(folder, pid)
    return answer is None or is_whole(answer)


def _asked(folder: Path, pid: int) -> str | None:
    """Return what a process answers, ``None`` if it cannot be asked."""
    from pytest_celerypool.agent.stacks import SIGNAL

    file = folder / f"stacks-{pid}"
    if not file.exists():  # not a process of the pool, or not ready: the signal would go unanswered
        return None
    before = file.stat().st_size
    try:
        os.kill(pid, SIGNAL)
    except ProcessLookupError:
        return None
    return _answer(file, before)


def _answer(file: Path, before: int) -> str:
    """Wait until the process has written its stacks, or half a second; returns what there is by then."""
    from pytest_celerypool.agent.stacks import is_whole

    deadline = time.monotonic() + _STACKS_S
    while True:
        with file.open("rb") as stream:
            stream.seek(before)
            answer = stream.read().decode(errors="replace")
        if is_whole(answer) or time.monotonic() > deadline:
            return answer or "(no answer: its main thread never ran)"
        time.sleep(0.01)
