"""Several workers for one test, side by side in one namespace: each with its own pool and queues, as in production.

The application routes its tasks to the queues; the test sees which worker ran what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_celerypool.agent import loading
from pytest_celerypool.application import locate
from pytest_celerypool.crossing import Crossing
from pytest_celerypool.databases import databases_of_tests
from pytest_celerypool.errors import (
    BrokerError,
    ClusterError,
    LackingError,
    MarkerError,
    SettingError,
    WorkerError,
    did_you_mean,
)
from pytest_celerypool.handle import Handle
from pytest_celerypool.keys import HANDLE, MARKERS, OBSERVED, SETTINGS
from pytest_celerypool.lease import (
    Observed,
    hand_over,
    measure_before,
    nodes_of,
    note_eager,
    observe,
    refuse_second,
    workers_of,
)
from pytest_celerypool.ledger import Ledger
from pytest_celerypool.markers import Markers, read_worker_options
from pytest_celerypool.pools import Pool, missing, parse_one_pool
from pytest_celerypool.surface import AXIS, CLUSTER
from pytest_celerypool.worker import WorkerHandle
from pytest_celerypool.workers import make_spec

if TYPE_CHECKING:
    from pytest_celerypool.broker import Broker

_KEYS = ("pool", "queues", "concurrency", "options")

_EXAMPLE = '{"cpu": dict(pool="prefork", queues=["cpu"]), "io": dict(pool="gevent", queues=["io"], concurrency=50)}'

#: A worker's name becomes a part of its node name.
_NAME = re.compile(r"\w[\w.-]*", re.ASCII)

_QUEUES_ARE_GIVEN: Mapping[str, str] = dict.fromkeys(
    ("-Q", "--queues", "-X", "--exclude-queues"), "the worker's queues are given as queues=[…]"
)


@dataclass(frozen=True)
class Member:
    """What one worker of a cluster is asked to be; a `concurrency` of None leaves it to the option or the default."""

    pool: Pool
    queues: tuple[str, ...]
    concurrency: int | None = None
    options: tuple[str, ...] = ()


class Cluster(Handle, Mapping[str, WorkerHandle]):
    """The workers of one test by their names, and what it can do with all of them together.

    A handle on one of them has the spans, findings and log of that worker; ``submit``, ``run``, ``map`` and ``drain``
    do the same on the cluster and on each handle: the application's routes decide where a task runs, and what is waited
    for are the tasks of the test, in whichever worker they run.
    """

    def __init__(self, app: Any, broker: Broker, test: str, timeout: float) -> None:
        #: Of what the test publishes; each worker has its own for what it receives.
        self._crossing = Crossing(None, True, broker.server_pid, {})
        super().__init__(app, broker, timeout, Ledger(test, self.place, reports_lost=False, clocks=self._crossing))
        self._by_name: dict[str, WorkerHandle] = {}

    def fill(self, handles: Sequence[WorkerHandle]) -> None:
        """Have these workers, which are ready."""
        self._by_name = {handle.name: handle for handle in handles}

    def close(self) -> None:
        """Let go of what the handles have opened."""
        for member in self.members:
            member.close()
        self._crossing.close()

    @property
    def members(self) -> Sequence[WorkerHandle]:
        """The workers, in the order in which they were given."""
        return tuple(self._by_name.values())

    @property
    def place(self) -> str:
        """What verdicts say that a task ran under."""
        return "the cluster"

    def __getitem__(self, name: str) -> WorkerHandle:
        if name not in self._by_name:
            raise KeyError(no_such_worker(name, list(self._by_name)))
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<cluster {', '.join(member.label for member in self.members)}>"

    def _consumed(self) -> str:
        if not self._by_name:
            return "no worker was started: call celery_pool_cluster({…})"
        return "; ".join(
            f"{member.name}{', which the test has ended, consumed' if member.ended else ' consumes'}: "
            + ", ".join(sorted(member.queues))
            for member in self.members
        )


def no_such_worker(name: str, names: Sequence[str]) -> str:
    """Return what to say of a name that no worker of a cluster has."""
    if not names:
        return f"there is no worker {name!r}: the test has not called celery_pool_cluster."
    return f"the cluster has no worker {name!r}. Its workers: {', '.join(names)}.{did_you_mean(name, names)}"


# -- what a test gives


def read_members(given: object) -> dict[str, Member]:
    """Read what a test gives to the fixture; raises :exc:`ClusterError`."""
    if not isinstance(given, Mapping) or not given:
        raise ClusterError(
            f"{CLUSTER}: {given!r} is not valid. Valid: a mapping of the workers' names to what each is, as in "
            f"{_EXAMPLE}."
        )
    return {_name(name): _member(name, spec) for name, spec in given.items()}


def _only(workers: Sequence[object], named: Mapping[str, object]) -> object:
    """Return the one argument with which the fixture was called; raises :exc:`ClusterError` if there are others."""
    if len(workers) == 1 and not named:
        return workers[0]
    given = ", ".join([*map(repr, workers), *(f"{name}={value!r}" for name, value in named.items())])
    raise ClusterError(
        f"{CLUSTER}({given}) is not valid. Valid: one mapping of the workers' names to what each is, as in "
        f"{CLUSTER}({_EXAMPLE})."
    )


def _name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ClusterError(
            f"{CLUSTER}: {name!r} cannot be the name of a worker. "
            "Valid: letters, digits, '_', '-' and '.', as in 'cpu'."
        )
    return name


def _member(name: str, given: object) -> Member:
    where = f"{CLUSTER}: worker {name!r}"
    if not isinstance(given, Mapping):
        raise ClusterError(f'{where}: {given!r} is not valid. Valid: dict(pool="prefork", queues=["{name}"]).')
    for key in given:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS)
            raise ClusterError(f"{where}: there is no key {key!r}. Valid keys: {', '.join(_KEYS)}.{hint}")
    try:
        options = read_worker_options(where, given.get("options", ()), _QUEUES_ARE_GIVEN)
    except MarkerError as error:
        raise ClusterError(str(error)) from None
    return Member(
        _pool(where, given.get("pool")),
        _queues(where, given.get("queues")),
        _concurrency(where, given.get("concurrency")),
        options,
    )


def _pool(where: str, given: object) -> Pool:
    if isinstance(given, Pool):
        return given
    valid = 'Valid: the name of a pool, as in pool="gevent", pkg.module:TaskPool, or the fixture celery_pool'
    if given is None:
        raise ClusterError(f"{where}: no pool is given. {valid}.")
    if not isinstance(given, str):
        raise ClusterError(f"{where}: pool={given!r} is not valid. {valid}.")
    try:
        return parse_one_pool(given, where)
    except SettingError as error:
        raise ClusterError(str(error)) from None


def _queues(where: str, given: object) -> tuple[str, ...]:
    valid = 'Valid: a list of the names of those that the worker consumes, as in queues=["mail"]'
    if given is None:
        raise ClusterError(f"{where}: no queues are given. {valid}.")
    named = isinstance(given, list | tuple) and all(
        # Celery takes them as one word, separated by commas.
        isinstance(each, str) and each.strip() and "," not in each
        for each in given
    )
    if not named or not given:
        raise ClusterError(f"{where}: queues={given!r} is not valid. {valid}.")
    assert isinstance(given, list | tuple)
    return tuple(dict.fromkeys(given))


def _concurrency(where: str, given: object) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ClusterError(f"{where}: concurrency={given!r} is not valid. Valid: a whole number above 0.")
    return given


# -- starting and ending


class Starter:
    """What the fixture gives: called once, it starts the workers and returns the :class:`Cluster`.

    :param request: of the fixture.
    :param app: the application under test.
    """

    def __init__(self, request: pytest.FixtureRequest, app: Any) -> None:
        self._config, self._item, self._app = request.config, request.node, app
        self._settings = self._config.stash[SETTINGS]
        self._workers = workers_of(self._config)
        self._source = loading.parse(self._settings.app) if self._settings.app else locate(app)
        self._databases = databases_of_tests(request)
        self._broker = self._workers.broker_for(app)
        self._markers = self._item.stash.get(MARKERS, Markers())
        self.observed = Observed()
        #: The namespace of all of them. The application points at it from the beginning.
        self.target = self._broker.target()
        self.cluster = Cluster(app, self._broker, self._item.nodeid, self._settings.timeout)

    def __call__(self, *workers: Mapping[str, Mapping[str, Any]], **named: object) -> Cluster:
        """Start workers side by side, and wait until all are ready.

        :param workers: one mapping: for each by its name a dict of ``pool`` (its name, a
            :class:`~pytest_celerypool.pools.Pool`, or ``"pkg.module:TaskPool"``), ``queues`` (a list of names: it
            consumes these and no others), ``concurrency`` (by default that of the option ``--celery-concurrency``) and
            ``options`` (further words of the command line of ``celery worker``); the last two may be left out.
        :param named: nothing: is refused, since a worker's name need not be a Python name.
        :returns: a mapping of the names to handles.
        :raises ClusterError: something is wrong with `workers`, or the test has a cluster already.
        :raises WorkerError: one of them cannot start.
        """
        __tracebackhide__ = True
        if self.cluster.members:
            raise ClusterError(
                f"{CLUSTER}: the test has its cluster already ({', '.join(self.cluster)}). "
                "Give all workers in one call."
            )
        try:
            members = read_members(_only(workers, named))
        except ClusterError as exc:  # the test's own line is all of the traceback that helps
            raise exc.with_traceback(None) from None
        for name, member in members.items():
            reason = missing(member.pool)
            if reason is not None:
                pytest.skip(f"worker {name!r} of the cluster: {reason}")
        if any(budget.timed for budget in self._markers.budgets):
            self._workers.plan([], self._source, self._app)
            self._workers.pause()
        nodes = nodes_of(self._config)
        specs = [
            make_spec(
                self._settings,
                self._source,
                member.pool,
                member.concurrency,
                ("-Q", ",".join(member.queues), *member.options),
                nodes,
                self._databases,
                name=name,
            )
            for name, member in members.items()
        ]
        try:
            started = self._workers.start_together(specs, self._source, self._app, self.target)
        except LackingError as exc:
            pytest.skip(f"a worker of the cluster: {exc}")
        test, timeout = self._item.nodeid, self._settings.timeout
        self.cluster.fill(
            [WorkerHandle(self._app, each, self._broker, test, timeout, self.cluster) for each in started]
        )
        measure_before(self.cluster, self._markers, self.observed)
        return self.cluster

    def enter(self) -> Callable[[], None]:
        """Point the application at the cluster's namespace; returns what ends that."""
        redirection = self._workers.redirection(self._app, self.target)
        redirection.enter()
        return redirection.leave

    def end(self) -> None:
        """End the workers: they were this test's alone."""
        self._workers.resume()
        self.cluster.pump()
        for member in self.cluster.members:
            hand_over(self._workers, self._item, member, self._markers, clean=False)


@contextmanager
def lend(request: pytest.FixtureRequest, app: Any) -> Iterator[Starter]:
    """Let the test of `request` start a cluster; its workers end with the context.

    :param app: the application under test.
    """
    __tracebackhide__ = True
    item, config = request.node, request.config
    refuse_second(item)
    _refuse_pools(item)
    try:
        starter = Starter(request, app)
    except (WorkerError, BrokerError) as exc:
        raise pytest.fail.Exception(str(exc), pytrace=False) from None
    note_eager(config, app)
    with ExitStack() as stack:
        stack.callback(starter.cluster.close)
        stack.callback(starter.end)
        try:
            stack.callback(starter.enter())
            observe(stack, app, starter.cluster, starter.observed, starter.target)
        except WorkerError as exc:
            raise pytest.fail.Exception(str(exc), pytrace=False) from None
        item.stash[HANDLE], item.stash[OBSERVED] = starter.cluster, starter.observed
        yield starter


def _refuse_pools(item: pytest.Item) -> None:
    """Refuse a test's own ``celery_pools`` where it would choose nothing; one of its module is for the others there."""
    names = getattr(item, "fixturenames", ())
    if AXIS not in names and any(mark.name == "celery_pools" for mark in item.own_markers):
        raise pytest.fail.Exception(
            f"{item.nodeid}: celery_pools: the pools of this test are those that it gives to {CLUSTER}. To run it once "
            f"for each pool ask for the fixture {AXIS} too, and give a worker pool={AXIS}.",
            pytrace=False,
        )
