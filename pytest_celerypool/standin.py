"""What takes the place of ``celery.contrib.testing.worker.start_worker`` while contrib's fixtures set up a worker.

Nothing of Celery is imported before that: an import that comes earlier than a suite's own breaks instrumentation that
hooks Celery first.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_celerypool.errors import BrokerError, WorkerError
from pytest_celerypool.keys import NOTES, POLICIES, SETTINGS, STANDINS
from pytest_celerypool.lease import workers_of
from pytest_celerypool.onlooker import Onlooker, policy_for_suite
from pytest_celerypool.pools import Pool
from pytest_celerypool.settings import APP, DEFAULT, Settings
from pytest_celerypool.trace import Finding
from pytest_celerypool.verdict.findings import as_data
from pytest_celerypool.workers import refuse_absent, source_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.embedded import EmbeddedWorker

#: How long after the end of its test a task may go on before its worker is replaced, in seconds.
GRACE_S = 1.0

#: How long a worker that is replaced is waited for, in seconds.
_LEAVE_S = 1.0

#: How long ``reload()`` waits for new children: one that executes a task comes only after it.
_RELOAD_S = 5.0

#: How often a task that goes on is looked at, in seconds.
_LOOK_S = 0.005


class _Default(int):
    """A value that nobody gave."""


_ONE_SLOT: Final = _Default(1)


@contextmanager
def in_place_of_start_worker(item: pytest.Item, pool: Pool) -> Iterator[None]:
    """Have contrib's fixtures start a worker that can be replaced, for the time of their set-up.

    :param item: the test for which the fixture is set up.
    :param pool: the pool for which it was multiplied.
    """
    from celery.contrib.testing import worker as module

    original = module.start_worker
    module.start_worker = _make_start_worker(item, pool)
    try:
        yield
    finally:
        module.start_worker = original


def _make_start_worker(item: pytest.Item, chosen: Pool) -> Callable[..., Any]:
    from celery.contrib.testing.worker import WORKER_LOGLEVEL

    @contextmanager
    def start_worker(
        app: Any,
        concurrency: int | None = _ONE_SLOT,
        pool: Any = "solo",
        loglevel: str | int = WORKER_LOGLEVEL,
        logfile: str | None = None,
        perform_ping_check: bool = True,
        ping_task_timeout: float = 10.0,
        shutdown_timeout: float = 10.0,
        **kwargs: Any,
    ) -> Iterator[Any]:
        if concurrency is _ONE_SLOT:
            concurrency = slots(item.config.stash[SETTINGS], chosen)
        options = {"concurrency": concurrency, "pool": pool, "loglevel": loglevel, "logfile": logfile, **kwargs}
        standin = StandIn(app, options, item, chosen)
        running = item.config.stash.setdefault(STANDINS, [])
        try:
            standin.start(ping_task_timeout if perform_ping_check else None)
            running.append(standin)
            yield standin.proxy
        finally:
            if standin in running:
                running.remove(standin)
            standin.stop(shutdown_timeout)

    return start_worker


@contextmanager
def forced_workers(item: pytest.Item, pool: Pool, started: Callable[[], None]) -> Iterator[None]:
    """Have every worker that is started meanwhile run under `pool`, whoever starts it and whatever it asks for.

    :param item: the test that runs.
    :param started: called when one has started.
    """
    from celery.contrib.testing import worker as module

    # Whoever imported start_worker by its name has the original, which calls this one.
    original = module._start_worker_thread

    @contextmanager
    def start_worker_thread(
        app: Any, *args: Any, perform_ping_check: bool = True, shutdown_timeout: float = 10.0, **options: Any
    ) -> Iterator[Any]:
        from celery.result import _set_task_join_will_block

        names = ("concurrency", "pool", "loglevel", "logfile", "WorkController")
        options = {"concurrency": 1, **dict(zip(names, args, strict=False)), **options, "pool": _value_of(pool)}
        defaults = {"loglevel": module.WORKER_LOGLEVEL, "logfile": None}
        standin = StandIn(app, {**defaults, **options}, item, pool)
        try:
            standin.start(None)
            _set_task_join_will_block(False)
            started()
            yield standin.proxy
        finally:
            standin.stop(shutdown_timeout)

    module._start_worker_thread = start_worker_thread
    try:
        yield
    finally:
        module._start_worker_thread = original


def _value_of(pool: Pool) -> str:
    return pool.path if pool.custom else pool.name


def slots(settings: Settings, pool: Pool) -> int | None:
    """Return the slots of a worker whose suite does not say how many; ``None`` leaves them to the application."""
    wanted = settings.concurrency
    if wanted.source == DEFAULT:
        return 1
    if pool in wanted.named:
        return wanted.named[pool]
    if wanted.others == APP:
        return None
    return wanted.others if isinstance(wanted.others, int) and pool.takes_concurrency else 1


class StandIn:
    """A worker of contrib's fixtures, behind an object that stays valid when another worker takes its place.

    :param app: the suite's application.
    :param options: of ``start_worker``, those that concern its test not included.
    :param item: the test for which it is started.
    :param pool: for which that was multiplied.
    """

    def __init__(self, app: Any, options: Mapping[str, Any], item: pytest.Item, pool: Pool) -> None:
        from celery.local import Proxy

        self.app = app
        self.proxy = Proxy(lambda: self._embedded.controller)
        self._options = options
        self._config = item.config
        self._test = item.nodeid
        self._pool = pool
        self._onlooker: Onlooker | None = None
        self._tasks_of_tests: set[str] = set()
        #: What registers them with every application that comes to be: tasks are shared unless they say otherwise.
        self._sharers_of_tests: set[Callable[..., Any]] = set()
        self._embedded: EmbeddedWorker
        self._undo = ExitStack()

    # -- start and end

    def start(self, ping_timeout: float | None) -> None:
        """Start the worker, and have it run a task.

        :param ping_timeout: seconds that this task may take; ``None`` for none.
        """
        from celery.contrib.testing.worker import test_worker_starting, test_worker_stopped

        try:
            refuse_absent(self._pool, source_of(self._pool, self._config.stash[SETTINGS]), self._config.rootpath)
        except WorkerError as exc:
            raise pytest.fail.Exception(str(exc), pytrace=False) from None
        test_worker_starting.send(sender=self.app)
        self._undo.callback(lambda: test_worker_stopped.send(sender=self.app, worker=self._controller))
        if _forks(self._options["pool"], self.app):
            self._leave_memory()
        with self.app.connection(hostname=os.environ.get("TEST_BROKER")) as connection:
            # As start_worker does: where nothing answers it is told now, and not by a worker that tries for long.
            connection.default_channel  # noqa: B018
        self._onlooker = Onlooker.of(self.app, self._pool, self._config)
        if self._onlooker is not None:
            self._undo.callback(self._end_looking)
        self._embedded = _start(self.app, **self._options)
        if self._onlooker is not None:
            self._onlooker.ready(self._embedded.controller)
        if ping_timeout is not None:
            self._ping(ping_timeout)

    @property
    def _controller(self) -> Any:
        return self._embedded.controller if hasattr(self, "_embedded") else None

    def _ping(self, timeout: float) -> None:
        from celery.contrib.testing.tasks import ping
        from celery.result import allow_join_result

        assert "celery.ping" in self.app.tasks
        with allow_join_result():
            assert ping.delay().get(timeout=timeout) == "pong"

    def stop(self, timeout: float) -> None:
        """End the worker.

        :param timeout: seconds that a task may keep it.
        :raises RuntimeError: a task keeps it longer.
        """
        self._forget_tasks_of_tests()
        with self._undo:
            if self._controller is not None:
                from pytest_celerypool.agent.embedded import StopError

                if self._onlooker is not None:
                    self._onlooker.stopping()
                try:
                    self._embedded.stop(timeout)
                except StopError:
                    raise RuntimeError(
                        "Worker thread failed to exit within the allocated timeout. Consider raising "
                        "`shutdown_timeout` if your tasks take longer to execute."
                    ) from None
                finally:
                    _let_go(self._controller)

    def findings(self) -> list[Finding]:
        """Return what the agent beside the worker has found since the last call."""
        return [] if self._onlooker is None else self._onlooker.findings()

    def _end_looking(self) -> None:
        assert self._onlooker is not None
        policies = self._config.stash[POLICIES]
        late = workers_of(self._config).late
        for finding in self._onlooker.close():
            policy = policy_for_suite(policies, finding.kind)
            if policy != "off":
                late.append({**as_data(finding, policy), "tests": [self._test]})

    def _leave_memory(self) -> None:
        """Point the application at the run's servers where what it names does not leave this process."""
        target = _elsewhere(self.app, self._config)
        if target is not None:
            from pytest_celerypool.agent.redirect import Redirection

            redirection = Redirection(self.app, target)
            redirection.enter()
            self._undo.callback(redirection.close)

    @contextmanager
    def noting_tasks(self) -> Iterator[None]:
        """Note the tasks that a test defines in its own body; the application forgets them when the worker ends.

        The application of a session outlives the worker of one pool. When the test runs again under the next, Celery
        would keep the function that it knows, and warn of the new one.
        """
        from celery import _state

        tasks, sharers = set(self.app._tasks), set(_state._on_app_finalizers)
        try:
            yield
        finally:
            self._tasks_of_tests |= self.app._tasks.keys() - tasks
            self._sharers_of_tests |= _state._on_app_finalizers - sharers

    def _forget_tasks_of_tests(self) -> None:
        from celery import _state

        for name in self._tasks_of_tests:
            self.app._tasks.pop(name, None)
        _state._on_app_finalizers -= self._sharers_of_tests

    # -- a task that does not end

    def stuck(self) -> list[Any]:
        """Return the requests that this worker executes, of those that go on for a while."""
        deadline = time.monotonic() + GRACE_S
        while (found := self._active()) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return found

    def _active(self) -> list[Any]:
        from celery.worker import state

        return [request for request in tuple(state.active_requests) if request._app is self.app]

    def end(self) -> str:
        """Say how the worker ended that should still run; empty while it does."""
        from celery.bootsteps import RUN

        if self._embedded.alive and self._embedded.controller.blueprint.state == RUN:
            return ""
        error = self._embedded.error
        return "ended the worker" if error is None else f"ended the worker by {type(error).__name__}: {error}"

    def replace(self, requests: Iterable[Any]) -> None:
        """Abandon the worker, which executes `requests`, and start another for the same application."""
        from celery.worker import state

        from pytest_celerypool.agent.embedded import StopError

        old = self._embedded
        try:
            old.stop(_LEAVE_S)
        except StopError:
            pass  # its task keeps its thread: it ends with the task, and until then it has nothing to do with tests
        _let_go(old.controller)
        for request in requests:
            state.active_requests.discard(request)
            state.reserved_requests.discard(request)
            state.requests.pop(request.id, None)
            if request.task.acks_late:  # the broker delivers it again, to the worker that comes
                state.revoked.add(request.id)
        self._embedded = _start(self.app, **self._options)


def _start(app: Any, *, WorkController: Any = None, loglevel: Any, logfile: Any, **options: Any) -> EmbeddedWorker:  # noqa: N803 - the names of start_worker
    """Start a worker of `app` in this process, with the options of ``start_worker``."""
    from celery.contrib.testing.worker import setup_app_for_worker
    from celery.utils.nodenames import anon_nodename

    from pytest_celerypool.agent.embedded import EmbeddedWorker

    def make(**arguments: Any) -> Any:
        setup_app_for_worker(app, loglevel, logfile)
        return (WorkController or _controller_class())(loglevel=loglevel, logfile=logfile, **arguments)

    defaults = {"hostname": anon_nodename(), "without_heartbeat": True}
    if _forks(options["pool"], app):
        from pytest_celerypool.agent.forks import leave_answers_to_the_parent

        leave_answers_to_the_parent()
        defaults["pool_restarts"] = True  # or reload() fails: there would be nothing that restarts the children
    fixed = {"ready_callback": None, "without_mingle": True, "without_gossip": True}
    embedded = EmbeddedWorker(app, make, **{**defaults, **options, **fixed})
    embedded.start()
    return embedded


def _controller_class() -> type[Any]:
    """Return contrib's class of workers, for one that forks before it starts and leaves no log handler behind."""
    from celery.contrib.testing.worker import TestWorkController
    from celery.utils.functional import noop
    from celery.worker import WorkController as Base

    class Controller(TestWorkController):  # type: ignore[misc]
        """Passes the log of its children on, as its base does, from their beginning to its own end."""

        _nothings: list[Any]

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.logger_queue:
                handler = self.QueueHandler(self.logger_queue)
                handler.addFilter(
                    lambda record: record.process != self.pid and not getattr(record, "from_queue", False)
                )
                logging.getLogger().addHandler(handler)

        def start(self) -> Any:
            return Base.start(self)

        def reload(self, *args: Any, **kwargs: Any) -> Any:
            """Reload, and wait until the children that come after it are there: Celery looks every five seconds.

            What the test changes from then on is not theirs to see.
            """
            before = _children(self)
            result = super().reload(*args, **kwargs)
            self._nothings = []
            deadline = time.monotonic() + _RELOAD_S
            while not _replaced(before, _children(self)) and time.monotonic() < deadline:
                self.consumer.call_soon(self._renew_children)
                time.sleep(_LOOK_S)
            return result

        def _renew_children(self) -> None:
            """Wake the children that have nothing to do: each looks only after a task whether it has to end."""
            pool = self.pool._pool
            if all(each.ready() for each in self._nothings):
                # Celery has sent one, which one of them took.
                self._nothings = [pool.apply_async(noop) for _ in pool._pool]
            self.pool.maintain_pool()

    return Controller


def _children(controller: Any) -> set[int | None]:
    """Return the ids of the processes of a pool that forks, ``None`` for one to be forked; none of any other pool."""
    pool = getattr(controller.pool, "_pool", None)
    return {child.pid for child in getattr(pool, "_pool", ())}


def _replaced(before: set[int | None], now: set[int | None]) -> bool:
    """Whether other children have taken the place of those before, and are forked."""
    return len(now) >= len(before) and not now & {*before, None}


def _forks(pool: Any, app: Any) -> bool:
    """Whether tasks leave this process under a pool, which may be a name, a path, or a class."""
    from celery.concurrency import get_implementation
    from celery.concurrency.prefork import TaskPool

    implementation = get_implementation(pool or app.conf.worker_pool)
    return isinstance(implementation, type) and issubclass(implementation, TaskPool)


def _let_go(controller: Any) -> None:
    """Let nothing of a worker that has ended, or could not, hold up the end of this process."""
    if getattr(controller, "logger_queue", None):
        # Not listener.stop(), which joins: a child that was killed may have kept the lock of the queue.
        controller.queue_listener.enqueue_sentinel()
        controller.logger_queue.cancel_join_thread()
    executor = getattr(controller.pool, "executor", None)
    if executor is not None:
        from concurrent.futures import thread

        for each in executor._threads:
            thread._threads_queues.pop(each, None)  # type: ignore[attr-defined]  # or the interpreter waits for it


# -- brokers that do not leave the process


def _elsewhere(app: Any, config: pytest.Config) -> dict[str, Any] | None:
    """Return the target for what `app` has in memory, with ``None`` for what it has elsewhere; ``None`` if all is."""
    settings = config.stash[SETTINGS]
    replaced = {
        "broker": settings.broker != APP and app.connection_for_write().transport_cls == "memory",
        "backend": settings.backend != APP and _in_memory(app.backend),
    }
    if not any(replaced.values()):
        return None
    try:
        target = dict(workers_of(config).broker_for(app).target())
    except BrokerError as exc:
        raise pytest.fail.Exception(str(exc), pytrace=False) from None
    if not replaced["broker"]:
        target |= {"broker_url": None, "transport": None, "broker_transport_options": {}}
    if not replaced["backend"]:
        target |= {"backend_url": None, "result_backend_transport_options": {}}
    _note(config, [name for name, is_replaced in replaced.items() if is_replaced])
    return target


def _in_memory(backend: Any) -> bool:
    return getattr(backend, "backend", None) in ("memory", "in-memory") and hasattr(backend, "servers")


def _note(config: pytest.Config, names: list[str]) -> None:
    what = {"broker": "the broker memory://", "backend": "the result backend cache+memory://"}
    notes = config.stash[NOTES]
    text = (
        f"under pools that fork, {' and '.join(what[name] for name in names)} of celery.contrib.pytest's fixtures "
        f"{'was' if len(names) == 1 else 'were'} replaced by the run's server: what is in memory does not leave the "
        "process"
    )
    if text not in notes:
        notes.append(text)


# -- during and after a test


@contextmanager
def noting_tasks(config: pytest.Config) -> Iterator[None]:
    """Note which tasks the body of a test defines."""
    with ExitStack() as stack:
        for standin in config.stash.get(STANDINS, []):
            stack.enter_context(standin.noting_tasks())
        yield


def findings(config: pytest.Config) -> list[Finding]:
    """Return what was found beside the workers that run, since the last call."""
    return [finding for standin in config.stash.get(STANDINS, []) for finding in standin.findings()]


def replace_if_stuck(item: pytest.Item) -> None:
    """Replace the workers that `item` ended, or left with a task that goes on, and say so at the end of the run."""
    for standin in item.config.stash.get(STANDINS, []):
        requests = standin.stuck()
        names = ", ".join(dict.fromkeys(request.name for request in requests))
        reason = f"left a task that did not end ({names})" if requests else standin.end()
        if reason:
            item.config.stash[NOTES].append(
                f"{item.nodeid} {reason}: the worker was replaced, and the object that celery_session_worker gave "
                "stands for the new one"
            )
            standin.replace(requests)
