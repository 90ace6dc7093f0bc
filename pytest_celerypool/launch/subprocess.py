"""Start a worker as Celery's own main with a real ``celery worker`` command line, in a process group of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.loading import spell
from pytest_celerypool.errors import LackingError, WorkerError
from pytest_celerypool.launch import (
    Memory,
    Surroundings,
    WithLog,
    WorkerSpec,
    check_worker,
    collect_garbage_of,
    memory_of,
    runs_python,
    stacks_of,
)
from pytest_celerypool.pools import lacking
from pytest_celerypool.trace import TraceReader
from pytest_celerypool.waiting import Histories

if TYPE_CHECKING:
    from pytest_celerypool.reaper import Reaper

#: Seconds until a worker must consume. Applications that import for longer exist, but nobody wants to wait.
START_TIMEOUT_S = 60.0

_POLL_S = 0.004
_LOG_TAIL_LINES = 40


class SubprocessWorker(WithLog):
    """A worker in a process of its own.

    :param spec: what it is asked to be.
    :param surroundings: its folder, application, broker.
    :param hostname: its node name, without the host.
    :param reaper: ends it if pytest dies first.
    :param ahead: whether nobody waits for it yet: it then starts at low priority.
    """

    #: What the test publishes is not in the trace: it happens in another process.
    records_publications = False

    def __init__(
        self, spec: WorkerSpec, surroundings: Surroundings, hostname: str, reaper: Reaper, *, ahead: bool = False
    ) -> None:
        self.spec = spec
        self.target = surroundings.target
        self.info: dict[str, Any] = {}
        self.early: list[dict[str, Any]] = []
        self.slot_histories: Histories = {}
        self._surroundings = surroundings
        self._hostname = hostname
        self._reaper = reaper
        self._folder = surroundings.folder
        self._log = self._folder / "worker.log"
        self._folder.mkdir(mode=0o700)
        self.reader = TraceReader(self._folder / "trace")
        self._environment = _environment()
        self._paused_at: float | None = None
        self._start(ahead=ahead)

    # -- start

    def _start(self, *, ahead: bool) -> None:
        config = self._folder / "worker.json"
        config.write_text(json.dumps(self._configuration()), encoding="utf-8")
        self._starts_at = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_celerypool.agent", str(config), *self.command_line()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                process_group=0,
            )
        self._reaper.kill_group(self._process.pid)
        if ahead:
            _lower_priority(self._process.pid)
        self.info = {}
        self._started = time.monotonic()

    def command_line(self) -> list[str]:
        """Return the words behind ``celery`` with which this worker is started."""
        spec = self.spec
        words = ["-A", spell(self._surroundings.source), "worker"]
        words += ["-P", "custom" if spec.pool.custom else spec.pool.name, "-n", f"{self._hostname}@%h"]
        if spec.concurrency is not None:
            words += ["-c", str(spec.concurrency)]
        # Talking to other workers takes a second at start and serves nothing here.
        words += ["-l", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat"]
        return [*words, *spec.options]

    def _configuration(self) -> dict[str, Any]:
        spec, around = self.spec, self._surroundings
        package = str(Path(__file__).parent.parent.parent)
        path = [str(around.root), *(entry or os.getcwd() for entry in sys.path), package]
        return {
            "trace": str(self._folder / "trace"),
            "folder": str(self._folder),
            "path": list(dict.fromkeys(path)),
            "app": around.source,
            "target": dict(around.target),
            "pool": spec.pool.name,
            "custom_pool": spec.pool.path if spec.pool.custom else None,
            "green": spec.pool.green,
            "concurrency": spec.concurrency,
            "databases": dict(spec.databases),
            "detection": around.detection,
        }

    @property
    def pid(self) -> int:
        """The process id of the worker's main process."""
        return self._process.pid

    @property
    def main_thread(self) -> tuple[int, int]:
        """Process id and thread id of the thread that receives messages."""
        return self.pid, self.pid

    def poll_ready(self) -> bool:
        """Whether the worker is ready, without waiting; raises :exc:`WorkerError` if it never will be."""
        if self.info:
            return True
        for record in self.reader.read():
            if record["e"] == "ready" and record["pid"] == self.pid:
                self.info = record
            else:
                self.early.append(record)
        if self.info:
            self._check()
            return True
        death = self.death()
        if death is not None:
            self._check_library()
            raise WorkerError(f"the {self.spec.title} {death} before it was ready{self._log_tail()}")
        return False

    def wait_ready(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Wait until the worker consumes.

        :param meanwhile: called again and again during the wait.
        :raises WorkerError: it ended, runs another pool than asked for, talks to another server, or is not
            ready in :data:`START_TIMEOUT_S`.
        """
        while not self.poll_ready():
            if time.monotonic() - self._started > START_TIMEOUT_S:
                stacks = self.stacks()
                self.end(0.0)
                raise WorkerError(
                    f"the {self.spec.title} was not ready after {START_TIMEOUT_S:.0f} s{self._log_tail()}\n"
                    f"It was here:\n{stacks}"
                )
            meanwhile()
            time.sleep(_POLL_S)

    def pause(self) -> None:
        """Halt a worker that is starting; the time does not count against its deadline."""
        if self._paused_at is None and self._signal_group(signal.SIGSTOP):
            self._paused_at = time.monotonic()

    def resume(self) -> None:
        """Let a worker go on that :meth:`pause` halted."""
        if self._paused_at is not None:
            self._signal_group(signal.SIGCONT)
            self._started += time.monotonic() - self._paused_at
            self._paused_at = None

    def _check(self) -> None:
        try:
            check_worker(self.info, self.spec, self.target)
        except WorkerError:
            self.end(0.0)
            raise

    def _check_library(self) -> None:
        """Raise :exc:`LackingError` if the worker could not start since a library of a custom pool is missing."""
        file = self._folder / "lacks"
        reason = lacking(self.spec.pool, file.read_text(encoding="utf-8")) if file.exists() else None
        if reason is not None:
            raise LackingError(reason)

    def _log_tail(self, start: int | None = None) -> str:
        lines = self.log(self._starts_at if start is None else start).rstrip().splitlines()
        tail = lines[-_LOG_TAIL_LINES:]
        return ". The end of its log:\n" + "\n".join(f"    {line}" for line in tail) if tail else ", and logged nothing"

    # -- while it runs

    def death(self) -> str | None:
        """Say how the worker ended ("exited with status 1", "was killed by SIGKILL"), ``None`` while it lives."""
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"exited with status {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed by {name}"

    def death_notice(self, start: int) -> str:
        """Return :meth:`death` with the end of the log from byte `start` on; empty while the worker lives."""
        death = self.death()
        return "" if death is None else f"the {self.spec.title} (pid {self.pid}) {death}{self._log_tail(start)}"

    def send_signal(self, number: int) -> None:
        """Send a signal to the worker: ``SIGKILL`` to all its processes, any other to the main one."""
        if number == signal.SIGKILL:
            self._kill_group()
            self._process.wait(5)
        else:
            self._process.send_signal(number)

    def processes(self) -> list[int]:
        """The process ids of the worker: its main process, its children and theirs."""
        import psutil

        try:
            main = psutil.Process(self.pid)
            return [self.pid, *(child.pid for child in main.children(recursive=True))]
        except psutil.NoSuchProcess:
            return []

    def memory(self) -> int | None:
        """Bytes that only this worker's processes use (unique set size), ``None`` if the system does not tell."""
        found = self.memory_by_process()
        return None if found is None else sum(found.used.values())

    def memory_by_process(self) -> Memory | None:
        """The same, process by process."""
        return memory_of(self.processes(), self._is_own)

    def _is_own(self, pid: int) -> bool:
        """Whether a process is the main one, or a child of the pool; others were started by tasks."""
        import psutil

        try:
            return pid == self.pid or (self.spec.pool.forks and psutil.Process(pid).ppid() == self.pid)
        except psutil.NoSuchProcess:
            return False

    def collect_garbage(self) -> bool:
        """Have all processes of the worker collect their garbage; returns whether they have."""
        return collect_garbage_of(self._folder, self.processes())

    def stacks(self) -> str:
        """Where every slot is at this moment; text for people, at most half a second old."""
        return stacks_of(self._folder, self.processes()) or "(no process of the worker answered)"

    def answers(self) -> bool:
        """Whether its main thread runs Python, at most half a second ago."""
        return runs_python(self._folder, self.pid)

    def learn(self) -> bool:
        """Say no: another process knows only what it imported."""
        return False

    # -- end

    def restart(self) -> None:
        """Start again in the same namespace, so that what is queued stays queued; to be called when it ended."""
        self._environment = _environment()
        self._start(ahead=False)
        self.wait_ready()

    def begin_stop(self) -> None:
        """Ask for a warm shutdown; a worker that is not ready yet has nothing to end warmly, and is killed."""
        if self._process.poll() is not None:
            return
        if self.info:
            self._process.terminate()
        else:
            self._kill_group()

    def end(self, grace: float) -> None:
        """Wait `grace` seconds for the worker to stop, then kill what is left of its process group."""
        try:
            self._process.wait(max(grace, 0.001))
        except subprocess.TimeoutExpired:
            pass
        self._kill_group()
        self._process.wait(5)
        self._reaper.forget_group(self.pid)

    def close(self) -> None:
        """Close the trace."""
        self.reader.close()

    def _kill_group(self) -> None:
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> bool:
        """Send a signal to all processes of the worker; returns whether there was any."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says "not permitted" of a group of zombies
            return False
        return True


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop("PYTEST_CURRENT_TEST", None)
    return environment


def _lower_priority(pid: int) -> None:
    """Let the others go first until the worker is ready; a process may come back from ``SCHED_BATCH`` by itself."""
    if hasattr(os, "sched_setscheduler"):
        try:
            os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
        except OSError:  # it ended already, or a sandbox forbids it: it is only a courtesy
            pass
