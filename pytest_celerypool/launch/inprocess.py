"""Run a worker in the process that runs the test: in a thread, or under a green library in a greenlet of it.

Such a worker lives as long as one test. Its application is pointed at the run's broker for just that time, and
everything that Celery changes in the process is put back at its end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pytest_celerypool.agent import embedded, install, publishing
from pytest_celerypool.agent.garbage import Collector, collect
from pytest_celerypool.agent.recorder import Recorder, Writer
from pytest_celerypool.agent.redirect import Redirection
from pytest_celerypool.agent.stacks import StackWriter, format_greenlets, shorten
from pytest_celerypool.agent.watch import Watch
from pytest_celerypool.errors import LackingError, WorkerError
from pytest_celerypool.launch import (
    Memory,
    Surroundings,
    WithLog,
    WorkerSpec,
    check_worker,
    collect_garbage_of,
    memory_of,
    stacks_of,
)
from pytest_celerypool.pools import lacking
from pytest_celerypool.trace import TraceReader
from pytest_celerypool.waiting import Histories

#: Seconds that a worker may take to end once its test is over; a task that goes on longer keeps its thread.
END_S = 2.0


class InProcessWorker(WithLog):
    """A worker in this process.

    :param spec: what it is asked to be.
    :param surroundings: its folder and broker.
    :param hostname: its node name, without the host.
    :param app: the application under test itself.
    :param notes: is given what the run should say at its end.
    """

    #: Publications of this process, the test's own among them, are in the trace.
    records_publications = True

    def __init__(
        self, spec: WorkerSpec, surroundings: Surroundings, hostname: str, app: Any, notes: list[str] | None = None
    ) -> None:
        self.spec = spec
        self.target = surroundings.target
        self.info: dict[str, Any] = {}
        self.early: list[dict[str, Any]] = []
        self.slot_histories: Histories = {}
        self._app = app
        self._folder = surroundings.folder
        self._detection = surroundings.detection
        self._folder.mkdir(mode=0o700)
        self._log = self._folder / "worker.log"
        self._log.touch()
        self.reader = TraceReader(self._folder / "trace")
        self._hostname = hostname
        self._notes = [] if notes is None else notes
        self._owner = threading.get_ident()
        self._cleanup = ExitStack()
        self._worker: embedded.EmbeddedWorker | None = None
        self._recorder: Recorder | None = None
        self._watch: Watch | None = None

    # -- start

    @property
    def pid(self) -> int:
        """The process id of the worker's main process: that of the test."""
        return os.getpid()

    @property
    def main_thread(self) -> tuple[int, int]:
        """Process id and thread id of the thread that receives messages; before it starts, this one."""
        thread = None if self._worker is None else self._worker.native_id
        return self.pid, threading.get_native_id() if thread is None else thread

    def poll_ready(self) -> bool:
        """Whether it is ready."""
        return bool(self.info)

    def wait_ready(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start the worker.

        :raises WorkerError: it runs another pool than asked for, or talks to another server.
        :raises BaseException: whatever kept it from starting.
        """
        if self.info:
            return
        self._import_pool()
        if self._recorder is None:
            self._prepare()
        controller = self._start()
        if self._watch is not None:
            self._watch.ready(controller)
        self.info = install.describe(controller)
        check_worker(self.info, self.spec, self.target)

    def _prepare(self) -> None:
        """Point the application at the run's broker, and begin to watch it, until :meth:`close`.

        It goes on while the worker is stopped: what a test publishes then waits for the next one.
        """
        app = self._app
        settings: dict[str, Any] = {"worker_pool": "prefork", "worker_state_db": None}
        for name in ("include", "broker_connection_timeout"):  # a worker sets them itself; held here they are put back
            settings[name] = app.conf[name]
        redirection = Redirection(app, self.target, task_always_eager=False, **settings)
        redirection.enter()
        self._cleanup.callback(redirection.close)
        self._cleanup.callback(_keep_queues(app))
        install.consume_routed_queues(app)
        _quieten_libraries()
        writer = Writer(str(self._folder / "trace"))
        self._recorder = recorder = Recorder(writer, green=self.spec.pool.green, app=app)
        self._cleanup.callback(writer.close)
        self._cleanup.callback(recorder.connect())
        if self._detection is not None:
            self._watch = watch = Watch(recorder, self._detection, "inprocess", str(self._folder))
            self._cleanup.callback(watch.remove)
            watch.install()
            watch.begin(app)
        self._cleanup.callback(publishing.watch(app, recorder.published, recorder.unpublished))
        self._cleanup.enter_context(self._logging())
        if self.spec.pool.forks:
            self._cleanup.enter_context(self._children_answer())

    def _import_pool(self) -> None:
        """Import the module of a custom pool, so that what it lacks is told from what the application lacks."""
        if not self.spec.pool.custom:
            return
        try:
            importlib.import_module(self.spec.pool.path.partition(":")[0])
        except ModuleNotFoundError as exc:
            reason = lacking(self.spec.pool, exc.name)
            if reason is None:
                raise
            raise LackingError(reason) from None

    def _start(self) -> Any:
        options = _options(self._app, self.spec.options)
        if self.spec.concurrency is not None:
            options["concurrency"] = self.spec.concurrency
        self._worker = embedded.EmbeddedWorker(
            self._app,
            pool=self.spec.pool.path,
            hostname=f"{self._hostname}@{os.uname().nodename}",
            pool_restarts=True,
            **options,
        )
        return self._worker.start(refuse_get=not self.spec.pool.allows_get_in_task)

    @contextlib.contextmanager
    def _logging(self) -> Any:
        """Write what is logged outside of the test's own thread to the worker's log."""
        handler = logging.FileHandler(self._log, encoding="utf-8")
        handler.setFormatter(logging.Formatter("[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"))
        owner, pid = self._owner, os.getpid()
        handler.addFilter(lambda record: record.process != pid or record.thread != owner)
        root, celery = logging.getLogger(), logging.getLogger("celery")
        level = celery.level
        root.addHandler(handler)
        celery.setLevel(logging.INFO)
        try:
            yield
        finally:
            celery.setLevel(level)
            root.removeHandler(handler)
            handler.close()

    @contextlib.contextmanager
    def _children_answer(self) -> Any:
        """Let the children of prefork say where they are when they are asked."""
        from celery import signals

        stacks, collector = StackWriter(str(self._folder)), Collector(str(self._folder))

        def register(**_: Any) -> None:
            stacks.register()
            collector.register()

        signals.worker_process_init.connect(register, weak=False)
        try:
            yield
        finally:
            signals.worker_process_init.disconnect(register)

    # -- while it runs

    def learn(self) -> bool:
        """Let the worker know the tasks that were registered since it started; returns whether it can.

        The children of prefork are copies of the process as it was when they were forked.
        """
        if self._worker is None or not self._worker.alive or self.spec.pool.forks:
            return False
        self._worker.controller.consumer.update_strategies()
        self.info["tasks"] = sorted(self._app.tasks)
        return True

    def death(self) -> str | None:
        """Say how the worker ended, ``None`` while it lives."""
        if self._worker is None or self._worker.alive:
            return None
        return f"ended by {self._worker.error!r}" if self._worker.error is not None else "ended"

    def death_notice(self, start: int) -> str:
        """Return :meth:`death` with the log from byte `start` on; empty while the worker lives."""
        death = self.death()
        if death is None:
            return ""
        log = self.log(start).rstrip()
        return f"the {self.spec.pool} worker in this process {death}" + (f". Its log:\n{log}" if log else "")

    def send_signal(self, number: int) -> None:
        """Refuse: a signal would hit the process of the test."""
        raise WorkerError(
            f"signal {number} cannot be sent to this worker: it lives in the process that runs the test. "
            "Use stop() or restart(), or launch='subprocess'."
        )

    def processes(self) -> list[int]:
        """The process ids of the worker: this one and the children of its pool."""
        pool = getattr(self._worker and self._worker.controller, "pool", None)
        children = getattr(getattr(pool, "_pool", None), "_pool", None) if self.spec.pool.forks else None
        return [self.pid, *(child.pid for child in children or () if child.pid is not None)]

    def memory(self) -> int | None:
        """Bytes that only this process and the children of the pool use, ``None`` if the system does not tell."""
        found = self.memory_by_process()
        return None if found is None else sum(found.used.values())

    def memory_by_process(self) -> Memory | None:
        """The same, process by process."""
        return memory_of(self.processes(), lambda _: True)

    def collect_garbage(self) -> bool:
        """Collect the garbage of this process and of the pool's children; returns whether all have."""
        collect()
        return collect_garbage_of(self._folder, self.processes()[1:])

    def stacks(self) -> str:
        """Where every slot is at this moment."""
        own = _own_stacks()
        tracer = None if self._recorder is None else self._recorder.tracer
        if tracer is not None:
            own += format_greenlets(tracer.running)
        children = stacks_of(self._folder, self.processes()[1:])
        return "\n".join(filter(None, (f"process {self.pid}:\n{shorten(own)}", children)))

    def answers(self) -> bool:
        """Say yes: who asks is in the same process."""
        return True

    def pause(self) -> None:
        """Do nothing: it is never started ahead."""

    def resume(self) -> None:
        """Do nothing: it is never started ahead."""

    # -- end

    def restart(self) -> None:
        """Start again in the same namespace, so that what is queued stays queued."""
        self.end(END_S)
        self.info = {}
        self.wait_ready()

    def begin_stop(self) -> None:
        """Do nothing yet: its end needs this thread."""

    def end(self, grace: float) -> None:
        """End the worker.

        :param grace: seconds that its tasks may go on, at least :data:`END_S`.
        """
        try:
            if self._worker is not None:
                if self._watch is not None:
                    self._watch.stopping()
                self._worker.stop(max(grace, END_S))
        except embedded.StopError as exc:
            self._notes.append(
                f"{self.spec.pool}: {exc} outside of Python, where nothing can interrupt it; "
                "pytest's process is ended by force, with status 1"
            )
            _leave_despite_threads()

    def close(self) -> None:
        """Give the application back."""
        self._cleanup.close()
        self.reader.close()


def _keep_queues(app: Any) -> Callable[[], None]:
    """Give the worker queues of its own to change (both are cached properties); returns what puts the others back."""
    made = vars(app.amqp)
    kept = {name: made.pop(name) for name in ("queues", "router") if name in made}

    def restore() -> None:
        for name in ("queues", "router"):
            made.pop(name, None)
        made.update(kept)

    return restore


def _leave_despite_threads() -> None:
    """Let the interpreter end although a thread of a ``ThreadPoolExecutor`` runs, which it would wait for for ever."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    threading._register_atexit(leave)  # type: ignore[attr-defined] # atexit's own callbacks come after that wait


def _quieten_libraries() -> None:
    """Ignore what Celery and its libraries warn each other of, until the end of the test (which has its own filters).

    In a worker of its own it goes unseen. Here ``filterwarnings = error`` would have Celery fail to store a result
    because redis-py deprecates a method of its own.
    """
    libraries = r"(celery|kombu|redis|amqp|billiard|vine)(\.|$)"
    for category in (DeprecationWarning, PendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=libraries)


def _options(app: Any, words: tuple[str, ...]) -> dict[str, Any]:
    """Return what words of the ``celery worker`` command line mean as arguments of a worker."""
    if not words:
        return {}
    import click
    from celery.bin.base import CLIContext
    from celery.bin.worker import worker

    try:
        context = worker.make_context("worker", list(words), obj=CLIContext(app, no_color=True, workdir=None))
    except click.ClickException as exc:
        raise WorkerError(f"the options {' '.join(words)!r}: {exc.format_message()}") from None
    given = click.core.ParameterSource.COMMANDLINE
    return {name: value for name, value in context.params.items() if context.get_parameter_source(name) is given}


def _own_stacks() -> str:
    """Return the stacks of the threads of this process, as faulthandler writes them."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
