"""Lend a worker to one test: point the application at it, watch what the test does, take it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import get_ident
from time import monotonic
from typing import Any

import pytest

from pytest_celerypool.agent import loading, publishing
from pytest_celerypool.application import Current, WaitWatch, eager_note, forget_tasks_of, locate
from pytest_celerypool.databases import databases_of_tests
from pytest_celerypool.errors import BrokerError, LackingError, WorkerError
from pytest_celerypool.floors import warm_up
from pytest_celerypool.handle import Handle, TaskTimeoutError, VainWaitError
from pytest_celerypool.keys import (
    HANDLE,
    LATE,
    MARKERS,
    NEXT_ITEM,
    NOTES,
    OBSERVED,
    POLICIES,
    REMAINING,
    SETTINGS,
    TOLD,
    WORKERS,
)
from pytest_celerypool.launch import Memory, WorkerSpec, same_server
from pytest_celerypool.markers import Markers, PoolsSpec
from pytest_celerypool.pools import POOLS
from pytest_celerypool.surface import AXIS, CLUSTER, WORKER
from pytest_celerypool.trace import Command
from pytest_celerypool.variants import Need, Variant, first_variant, need_of, slots_of, variant
from pytest_celerypool.verdict.findings import Tested
from pytest_celerypool.worker import WorkerHandle
from pytest_celerypool.workers import Workers, make_spec

#: How much longer than a handle's call a test's own ``get()`` without a timeout may wait.
OWN_WAIT_FACTOR = 6


class Observed:
    """What the test process saw while a test ran.

    :ivar current: keeps the application the current one; ``None`` until the test has its workers.
    """

    def __init__(self) -> None:
        self.current: Current | None = None
        self.eager: list[str] = []
        self.awaited: set[str] = set()
        self.memory_before: Memory | None = None


def workers_of(config: pytest.Config) -> Workers:
    """Return the workers of this process, made at the first use."""
    if WORKERS not in config.stash:
        config.stash[WORKERS] = Workers(
            config.stash[SETTINGS], config.stash[POLICIES], config.rootpath, config.stash[NOTES]
        )
    return config.stash[WORKERS]


def variant_of(request: pytest.FixtureRequest) -> Variant:
    """Return the variant that a test runs under.

    A test that reaches the axis dynamically, or from a ``unittest.TestCase``, is not multiplied: it runs under
    the first pool of the run, or of those that its ``celery_pools`` leaves.
    """
    value = getattr(request, "param", None)
    if isinstance(value, Variant):
        return value
    if value is not None:  # parametrised by hand, with names
        from pytest_celerypool.pools import parse_pools

        return variant(parse_pools(str(value), AXIS)[0])
    settings = request.config.stash[SETTINGS]
    return first_variant(request._pyfuncitem, settings) or variant((settings.pools or POOLS)[0])


def tell_pools_apart(fixturedef: Any) -> None:
    """Have pytest keep the value of the axis only for tests under the same pool.

    :param fixturedef: the definition of the fixture; pytest tells tests apart by their parameters alone, and one that
        was not multiplied has none.
    """
    original = fixturedef.cache_key
    if "cache_key" not in vars(fixturedef):
        fixturedef.cache_key = lambda request: original(request) if hasattr(request, "param") else variant_of(request)


@contextmanager
def lease(request: pytest.FixtureRequest, app: Any) -> Iterator[WorkerHandle]:
    """Lend a worker to the test of `request`.

    :param app: the application under test.
    :returns: a context whose value is the :class:`~pytest_celerypool.worker.WorkerHandle`.
    """
    __tracebackhide__ = True
    item, config = request.node, request.config
    refuse_second(item)
    try:
        borrower = _Borrower(request, app)
        worker = borrower.borrow()
    except LackingError as exc:
        pytest.skip(str(exc))
    except (WorkerError, BrokerError) as exc:
        raise pytest.fail.Exception(str(exc), pytrace=False) from None
    note_eager(config, app)
    broker = borrower.workers.broker_for(app)
    handle = WorkerHandle(app, worker, broker, item.nodeid, config.stash[SETTINGS].timeout)
    observed = Observed()
    with ExitStack() as stack:
        stack.callback(handle.close)
        stack.callback(borrower.give_back, handle)
        try:
            if worker.spec.launch == "subprocess":
                redirection = borrower.workers.redirection(app, worker.target)
                redirection.enter()
                stack.callback(redirection.leave)
            observe(stack, app, handle, observed, worker.target)
        except WorkerError as exc:
            raise pytest.fail.Exception(str(exc), pytrace=False) from None
        measure_before(handle, borrower.markers, observed)
        item.stash[HANDLE], item.stash[OBSERVED] = handle, observed
        yield handle


def refuse_second(item: pytest.Item) -> None:
    """Refuse a test that has both a worker and a cluster: what it publishes could not be in two namespaces."""
    if HANDLE in item.stash:
        raise pytest.fail.Exception(
            f"{item.nodeid}: a test has either {WORKER} or {CLUSTER}, and this one would have both. "
            f"With {CLUSTER} among its arguments no marker gives it another worker.",
            pytrace=False,
        )


def note_eager(config: pytest.Config, app: Any) -> None:
    """Have the run say, once, that an application is configured to be eager."""
    note = eager_note(app)
    if note is not None and note not in (*config.stash[NOTES], config.stash.get(TOLD, None)):
        config.stash[NOTES].append(note)


def measure_before(handle: Handle, markers: Markers, observed: Observed) -> None:
    """Measure what the test's budgets compare its end with."""
    if any("memory" in budget.measures for budget in markers.budgets):
        if isinstance(handle, WorkerHandle):
            for budget in markers.budgets:
                warm_up(handle, budget)
        observed.memory_before = handle.settled_memory()


class _Borrower:
    """Works out which worker a test needs, and gets it."""

    def __init__(self, request: pytest.FixtureRequest, app: Any) -> None:
        self._item, self._config = request.node, request.config
        self._app = app
        self.settings = self._config.stash[SETTINGS]
        self.workers = workers_of(self._config)
        self.markers = self._item.stash.get(MARKERS, Markers())
        self._spec = self.markers.pools or PoolsSpec()
        self.launch = self._spec.launch or self.settings.launch
        if self.launch == "inprocess":
            self.source = loading.Source(module=f"{app.main}", attribute=f"{id(app):#x}", call=False, file=None)
            self._databases: dict[str, str] = {}
        else:
            self.source = loading.parse(self.settings.app) if self.settings.app else locate(app)
            self._databases = databases_of_tests(request)
        callspec = getattr(self._item, "callspec", None)
        value = None if callspec is None else callspec.params.get(AXIS)
        self._dynamic = not isinstance(value, Variant)
        self._variant = value if isinstance(value, Variant) else self._unmultiplied(request)

    def _unmultiplied(self, request: pytest.FixtureRequest) -> Variant:
        """Return the variant of a test that has none among its parameters; its fixture may be the user's own."""
        pool = request.getfixturevalue(AXIS)
        first = first_variant(self._item, self.settings)
        return first if first is not None and first.pool == pool else variant(pool)

    def borrow(self) -> Any:
        spec = self._worker_spec((self._variant, slots_of(self._variant, self._spec), self._spec.options))
        timed = self.settings.advise or self._spec.sweeps or any(budget.timed for budget in self.markers.budgets)
        upcoming = self._upcoming()
        self.workers.plan([] if timed else [other for other in upcoming or () if other != spec], self.source, self._app)
        worker = self.workers.acquire(spec, self.source, self._app, fresh=self._spec.fresh or self._dynamic)
        if timed:
            self.workers.pause()
        if upcoming is not None and not _is_xdist_node(self._config):
            self.workers.retire([spec, *upcoming])
        return worker

    def give_back(self, handle: WorkerHandle) -> None:
        """Take the worker back; it serves others only if this test left nothing in it."""
        self.workers.resume()
        handle.pump()
        clean = not (
            self._spec.fresh
            or self._dynamic
            or self.launch == "inprocess"
            or handle.ended_by_test
            or handle.ledger.outstanding()
            or handle.ledger.lost_slots
            or handle.soiled
            or handle.launched.death()
        )
        hand_over(self.workers, self._item, handle, self.markers, clean=clean)
        if self.launch == "inprocess":
            forget_tasks_of(self._app, self._item)

    def _worker_spec(self, need: Need) -> WorkerSpec:
        value, slots, options = need
        nodes = nodes_of(self._config)
        return make_spec(self.settings, self.source, value.pool, slots, options, nodes, self._databases, self.launch)

    def _upcoming(self) -> list[WorkerSpec] | None:
        """The workers that later tests of this process will need, the next first; ``None`` if that is not known."""
        if self.launch == "inprocess":
            return None
        if not self.settings.app and self._has_several_apps():
            return None
        if _is_xdist_node(self._config):
            following = self._item.session.stash.get(NEXT_ITEM, None)
            needs = [] if following is None else [need_of(following)]
        elif REMAINING in self._item.session.stash:
            needs = [need for need, count in self._item.session.stash[REMAINING].items() if count > 0]
        else:
            return None
        return [self._worker_spec(need) for need in needs if need is not None]

    def _has_several_apps(self) -> bool:
        """Whether tests of this run may have different applications: the fixture is overridden more than once."""
        manager = getattr(self._item.session, "_fixturemanager", None)
        return len(getattr(manager, "_arg2fixturedefs", {}).get("celery_pool_app", ())) > 2


def hand_over(workers: Workers, item: pytest.Item, handle: WorkerHandle, markers: Markers, *, clean: bool) -> None:
    """Give a worker back from its test, with what shows only now; it serves others only if it is clean."""
    workers.note_late(handle.launched, handle.ledger.foreign)
    entries = handle.ledger.tasks.values()
    tested = Tested(
        handle.ledger.test,
        frozenset(entry.id for entry in entries) | handle.repeated,
        frozenset(entry.task for entry in entries),
        markers.allows,
    )
    workers.note_test(handle.launched, tested)
    known = len(workers.late)
    workers.release(handle.launched, clean=clean)
    if workers.late[known:]:
        # Its teardown report can still carry them, from a host too.
        item.stash[LATE] = [*item.stash.get(LATE, []), *workers.late[known:]]
        del workers.late[known:]


def nodes_of(config: pytest.Config) -> int:
    """Return how many nodes of xdist share the machine, 0 without xdist."""
    return int(getattr(config, "workerinput", {}).get("workercount", 0))


def _is_xdist_node(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def observe(stack: ExitStack, app: Any, handle: Handle, observed: Observed, target: Any) -> None:
    """See what the test does with the application, which points at the namespace of its workers, `target`."""
    _check_servers(app, target)
    observed.current = Current(app)
    observed.current.take()
    stack.callback(observed.current.give_back)
    stack.callback(_watch_publications(app, handle, target))
    stack.callback(_watch_waits(app, handle, observed))
    stack.callback(_watch_eager(app, observed))
    stack.callback(_watch_commands(app, handle))


def _check_servers(app: Any, target: Any) -> None:
    """Refuse to let the test publish anything unless the application points at the run's servers."""
    found = {
        "reading": (app.connection_for_read().as_uri(), target["broker_url"]),
        "writing": (app.connection_for_write().as_uri(), target["broker_url"]),
        "results": (app.backend.as_uri(), target["backend_url"]),
    }
    for purpose, (actual, wanted) in found.items():
        if wanted is not None and not same_server(actual, wanted):
            raise WorkerError(
                f"the application's connection for {purpose} points at {actual} instead of the run's server {wanted}: "
                "nothing was sent. Something other than its configuration decides where it connects."
            )


def _watch_publications(app: Any, handle: Handle, target: Any) -> Callable[[], None]:
    checked: list[Any] = []

    def before(publication: publishing.Publication, producer: Any) -> None:
        connection = getattr(getattr(producer, "channel", None), "connection", None)
        client = getattr(connection, "client", None)
        if client is not None and not any(client is known for known in checked):
            if target["broker_url"] is not None and not same_server(client.as_uri(), target["broker_url"]):
                raise WorkerError(
                    f"{publication.task} would be published to {client.as_uri()} instead of the run's broker "
                    f"{target['broker_url']}: it was not sent. Publish it without a connection of your own."
                )
            checked.append(client)
        handle.publishing(publication)

    return publishing.watch(app, before, lambda publication: handle.ledger.unpublish(publication.id))


def _watch_waits(app: Any, handle: Handle, observed: Observed) -> Callable[[], None]:
    from celery.exceptions import NotRegistered
    from celery.exceptions import TimeoutError as CeleryTimeoutError

    limit = OWN_WAIT_FACTOR * handle.timeout
    owner = get_ident()

    def interval(awaited: Mapping[str, tuple[str, ...]], deadline: float, patient: bool) -> None:
        __tracebackhide__ = True
        if get_ident() != owner:  # a task in a thread of this process
            return
        observed.awaited.update(awaited)
        handle.check(awaited, deadline, patient=patient)

    def failed(awaited: Mapping[str, tuple[str, ...]], exc: Exception, timeout: float | None) -> None:
        __tracebackhide__ = True
        if get_ident() != owner:
            return
        observed.awaited.update(awaited)
        handle.pump()
        if isinstance(exc, VainWaitError):
            # With a timeout what Celery would raise later: a test may expect that there is no result in time.
            raise (TaskTimeoutError if timeout is None else CeleryTimeoutError)(str(exc)) from None
        if isinstance(exc, NotRegistered):
            for text in handle.unregistered(awaited):
                exc.add_note(text)
        elif isinstance(exc, CeleryTimeoutError):
            if timeout is None:
                waited = f"no result after {limit:g} s ({OWN_WAIT_FACTOR} times --celery-timeout)"
                raise TaskTimeoutError(f"{waited}\n{handle.diagnosis(awaited)}") from None
            exc.add_note(handle.diagnosis(awaited))

    return WaitWatch(interval, failed, limit).install(app)


def _watch_eager(app: Any, observed: Observed) -> Callable[[], None]:
    """Notice tasks that run in the test process because something switched ``task_always_eager`` on again."""
    from celery import signals

    def on_prerun(task: Any = None, **_: Any) -> None:
        if task.app is app and task.request.is_eager and app.conf.task_always_eager:
            observed.eager.append(task.name)

    signals.task_prerun.connect(on_prerun, weak=False)
    return lambda: signals.task_prerun.disconnect(on_prerun)


def _watch_commands(app: Any, handle: Handle) -> Callable[[], None]:
    """Note what the test asks of its workers by remote control, and whether they answered."""
    control = app.control
    original = control.broadcast

    def broadcast(command: str, arguments: Any = None, destination: Any = None, *args: Any, **kwargs: Any) -> Any:
        asked, reply = monotonic(), None
        try:
            reply = original(command, arguments, destination, *args, **kwargs)
        finally:
            given = arguments or {}
            about = {**given, **kwargs}
            ids = about.get("task_id") or ()
            ids = (ids,) if isinstance(ids, str) else tuple(ids)
            terminate = bool(about.get("terminate")) or command == "terminate"
            answered = {name for each in reply or () for name in each}
            for member in handle.members:
                if destination is None or member.hostname in destination:
                    member.told(command, given)
                    unheard = bool(kwargs.get("reply")) and member.hostname not in answered
                    member.ledger.commands.append(Command(command, ids, terminate, asked, monotonic(), unheard))
        return reply

    control.broadcast = broadcast

    def unwatch() -> None:
        if vars(control).get("broadcast") is broadcast:
            del control.broadcast

    return unwatch
