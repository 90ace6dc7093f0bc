"""Run a Celery worker inside this process: start it, end it fast, and leave nothing of it in the process.

``celery.contrib.testing.worker.start_worker`` waits for ever if its thread dies before it is ready, keeps the
exception to itself, ends every worker of the process by a global flag, and waits for up to five seconds while a worker
of it stops. Here each worker is asked by itself, through its own event loop.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from pytest_celerypool.agent import waits
from pytest_celerypool.agent.process_state import keep_process_state

#: Seconds within which a worker in this process must consume.
START_TIMEOUT_S = 30.0

#: Seconds between two looks for a message where a transport has nothing to wait for (kombu's ``memory://``).
_POLLING_S = 0.005

#: How long the reply to the last ``BRPOP`` of a worker may be waited for, in seconds.
_BRPOP_S = 0.02


#: How long an idle thread may take to end, in seconds.
_IDLE_THREAD_S = 0.05

#: How long a thread that was interrupted in a task may take to end, in seconds.
_INTERRUPTED_S = 1.0


#: How long a child that is being ended may sleep at a time, in seconds; it may do so three hundred times.
_CHILDS_SLEEP_S = 0.001


class StopError(RuntimeError):
    """The thread of a worker did not end: a task keeps it."""


class EmbeddedWorker:
    """A worker of `app` in a thread (under a green library, a greenlet) of this process.

    :param app: a Celery application.
    :param controller_class: makes the worker; Celery's own ``WorkController`` if ``None``.
    :param options: what it is made with, such as ``pool`` and ``concurrency``.
    :ivar controller: Celery's worker, once :meth:`start` was called.
    :ivar error: what ended its thread, ``None`` if it ended well or runs.
    """

    def __init__(self, app: Any, controller_class: Any = None, **options: Any) -> None:
        self.app = app
        self.controller: Any = None
        self.error: BaseException | None = None
        self._class = controller_class
        self._options = options
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._stops = waits.Stops()
        self._tell_children: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._cleanup = ExitStack()

    # -- start

    def start(self, timeout: float = START_TIMEOUT_S, *, refuse_get: bool = False) -> Any:
        """Start the worker and wait until it consumes; returns the controller.

        :param timeout: seconds.
        :param refuse_get: whether a task that waits for another is refused that, as in a process of the worker's own.
        :raises BaseException: whatever ended its thread before that.
        :raises TimeoutError: it neither consumes nor ended.
        """
        from celery._state import _set_task_join_will_block

        self._cleanup.enter_context(keep_process_state(self.app))
        try:
            self._make()
            self._thread = threading.Thread(target=self._run, name=f"celery {self.controller.hostname}", daemon=True)
            self._thread.start()
            self._wait_ready(timeout)
            self._cleanup.callback(_look_often_for_results(self.app))
            # Celery's flag is one for the process: it would refuse the test its get() as well.
            _set_task_join_will_block(False)
            if refuse_get:
                self._cleanup.callback(_refuse_get_in_tasks())
        except BaseException:
            self._abandon()
            raise
        return self.controller

    def _make(self) -> None:
        from celery.worker import WorkController

        self.app.finalize()
        # What runs in the pool's threads finds its application as the default one (celery.app.trace.trace_task_ret).
        self.app.set_current()
        self.app.set_default()
        options = {"without_heartbeat": True, "without_mingle": True, "without_gossip": True, **self._options}
        make = self._class or WorkController
        self.controller = controller = make(app=self.app, **options)
        self._hear_of_readiness(controller.consumer)
        self._shorten_waits(controller)
        if _forks(controller):
            tell = waits.shorten_prefork_exit(_CHILDS_SLEEP_S)
            self._tell_children = tell
            self._fork_now(controller.pool)
        else:
            _run_as_of(self.app, controller.pool)
            self._keep_shutdown(controller)

    def _hear_of_readiness(self, consumer: Any) -> None:
        told = consumer.init_callback

        def on_ready(consumer: Any) -> None:
            if told is not None:
                told(consumer)
            self._ready.set()

        consumer.init_callback = on_ready

    def _shorten_waits(self, controller: Any) -> None:
        """Let every wait of this worker for its broker end when it is asked to stop."""
        hub, consumer = controller.hub, controller.consumer
        if hub is not None:
            create = hub._create_poller

            def create_poller() -> None:
                create()
                self._stops.watch(hub._poller, list)

            hub._create_poller = create_poller
        connect = consumer.connection_for_read

        def connection_for_read(*args: Any, **kwargs: Any) -> Any:
            connection = connect(*args, **kwargs)
            _shorten_waits_of(connection, self._stops)
            return connection

        consumer.connection_for_read = connection_for_read

    @staticmethod
    def _keep_shutdown(controller: Any) -> None:
        """Let a green worker that is told to shut down do so itself.

        It hears that in a greenlet of its own, and a hub raises ``SystemExit`` of any greenlet in the main one: in a
        process of the worker's own that is the worker, here it is the test.
        """
        spawn = getattr(controller.pool, "spawn_n", None)
        if spawn is None:
            return

        def spawn_n(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            def run() -> None:
                try:
                    function(*args, **kwargs)
                except SystemExit as exc:
                    controller.consumer.call_soon(_throw, exc)

            return spawn(run)

        controller.pool.spawn_n = spawn_n

    def _fork_now(self, pool: Any) -> None:
        """Start the children here, before the thread of the worker exists: a fork copies the locks of other threads.

        What forks the later ones starts here too.
        """
        from pytest_celerypool.agent.generations import Generations

        self._cleanup.callback(Generations(pool).close)
        pool.start()
        start = pool.start

        def started_already() -> None:
            pool.start = start

        pool.start = started_already

    def _run(self) -> None:
        controller = self.controller
        begin = controller.blueprint.start

        def start(parent: Any) -> None:
            try:
                begin(parent)
            except Exception as exc:
                # The controller logs it and goes on to stop.
                self.error = exc
                raise

        controller.blueprint.start = start
        try:
            controller.start()
        except BaseException as exc:  # noqa: BLE001 - handed over to whoever waits for the worker
            self.error = self.error or exc
        finally:
            self._ended.set()
            self._ready.set()

    def _wait_ready(self, timeout: float) -> None:
        if not self._ready.wait(timeout):
            raise TimeoutError(f"the worker was not ready after {timeout:g} s")
        if self._ended.is_set():
            raise self.error or RuntimeError("the worker ended before it was ready")
        # A broadcast of the first moment would be lost: it consumes, but has not subscribed to them yet.
        waits.wait_for_broadcasts(self.controller.consumer)

    def _abandon(self) -> None:
        """Let go of a worker that could not start."""
        try:
            if self._thread is not None and not self._ended.is_set():
                self._ask()
                self._ended.wait(1.0)
            elif self.controller is not None and self.controller.pool is not None and _forks(self.controller):
                self.controller.pool.terminate()
        finally:
            self._cleanup.close()

    # -- while it runs

    @property
    def native_id(self) -> int | None:
        """The system's number of its thread, ``None`` before it starts."""
        return None if self._thread is None else self._thread.native_id

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and not self._ended.is_set()

    # -- end

    def stop(self, timeout: float = 10.0) -> None:
        """End the worker without waiting for its tasks, and put back what it changed in the process.

        Tasks that run are interrupted: greenlets are killed, in a thread ``SystemExit`` is raised, children are ended.

        :param timeout: seconds until a task that keeps the worker's own thread is interrupted.
        :raises StopError: a thread goes on, since it runs no Python: nothing can end it.
        """
        try:
            if self.alive:
                self._ask()
                if not self._ended.wait(timeout):
                    _interrupt([self._thread])
                    self._ended.wait(_INTERRUPTED_S)
            left = self._end_slots()
            if self.alive or left:
                raise StopError(f"the worker did not end within {timeout:g} s: a task keeps its thread")
        finally:
            self._cleanup.close()

    def _ask(self) -> None:
        """Have the worker's own loop raise what ends it, and wake that loop."""
        from celery.exceptions import WorkerTerminate

        self._tell_children()

        def terminate() -> None:
            raise WorkerTerminate(0)

        self.controller.consumer.call_soon(terminate)
        _end_timer_thread(self.controller.timer)
        self._stops.wake()

    def _end_slots(self) -> list[threading.Thread]:
        """End the slots that terminating the pool leaves running; returns the threads that cannot be ended."""
        pool = getattr(self.controller, "pool", None)
        executor = getattr(pool, "executor", None)
        if executor is not None:  # threads
            executor.shutdown(wait=False, cancel_futures=True)
            return _end_threads(list(executor._threads))
        greenlets = getattr(pool, "_pool", None)
        for running in list(getattr(greenlets, "greenlets", ()) or getattr(greenlets, "coroutines_running", ())):
            running.kill()
        return []


def _end_threads(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Wait for threads that have nothing to do, interrupt the others, and return those that go on all the same."""
    for seconds in (_IDLE_THREAD_S, _INTERRUPTED_S):
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        threads = [thread for thread in threads if thread.is_alive()]
        if seconds is _IDLE_THREAD_S:
            _interrupt(threads)
    return threads


def _interrupt(threads: Iterable[threading.Thread | None]) -> None:
    """Raise ``SystemExit`` in threads, when they next run Python: the only way to end a task there."""
    for thread in threads:
        if thread is not None and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


def _throw(exc: BaseException) -> None:
    raise exc


def _run_as_of(app: Any, pool: Any) -> None:
    """Let the tasks of a pool find `app` as the current one, as in a process of the worker's own.

    Celery looks a task up in the application that is current where it runs (``celery.app.trace.trace_task_ret``): here
    that of the test, which may be another by then.
    """
    from celery import _state

    apply_async = pool.apply_async

    def apply_as(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def run(*arguments: Any, **rest: Any) -> Any:
            before = _state._tls.current_app
            _state._tls.current_app = app
            try:
                return target(*arguments, **rest)
            finally:
                _state._tls.current_app = before

        return apply_async(run, *args, **kwargs)

    pool.apply_async = apply_as


def _forks(controller: Any) -> bool:
    return str(type(controller.pool).__module__).endswith(".prefork")


def _shorten_waits_of(connection: Any, stops: waits.Stops) -> None:
    """Let waits on one connection of kombu's end soon after the worker was asked to stop."""
    transport = connection.transport
    poller = getattr(transport.cycle, "poller", None) if hasattr(transport, "cycle") else None
    if poller is not None:
        stops.watch(poller, waits.time_out)
        # A channel takes it from the transport when it is made, the first one with the connection.
        for one in (transport, *transport.channels, *transport._avail_channels):
            one.brpop_timeout = _BRPOP_S
        return
    if getattr(transport, "polling_interval", None):
        transport.polling_interval = _POLLING_S
    drain = connection.drain_events

    def drain_events(**kwargs: Any) -> Any:
        timeout = kwargs.get("timeout")
        if timeout is not None and timeout >= 1:
            kwargs["timeout"] = waits.LONGEST_S
        return drain(**kwargs)

    connection.drain_events = drain_events


def _refuse_get_in_tasks() -> Callable[[], None]:
    """Let ``result.get()`` be refused where a task runs, and only there; returns a function that ends this."""
    from celery import _state, result

    original = result.task_join_will_block

    def task_join_will_block() -> bool:
        return _state.get_current_task() is not None or bool(original())

    result.task_join_will_block = task_join_will_block

    def restore() -> None:
        result.task_join_will_block = original

    return restore


def _look_often_for_results(app: Any) -> Callable[[], None]:
    """Let a wait for a result look for it more often than twice a second, in a backend that tells nobody of it.

    :returns: a function that ends this.
    """
    backend = app.backend
    original = getattr(backend, "wait_for", None)
    if original is None:  # its results come by themselves
        return lambda: None

    def wait_for(task_id: str, timeout: float | None = None, interval: float = 0.5, **rest: Any) -> Any:
        return original(task_id, timeout=timeout, interval=min(interval, _POLLING_S), **rest)

    backend.wait_for = wait_for
    return lambda: backend.__dict__.pop("wait_for", None)


def _end_timer_thread(timer: Any) -> None:
    """Wake the thread of ``celery.utils.timer2.Timer``, which waits up to a second for its first entry."""
    shutdown = getattr(timer, "_Timer__is_shutdown", None)
    if shutdown is not None:
        shutdown.set()
        with timer.not_empty:
            timer.not_empty.notify_all()
