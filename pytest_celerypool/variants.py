"""What is multiplied: which tests have a worker, and under which pools each of them runs."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from _pytest.mark.structures import ParameterSet

from pytest_celerypool.errors import MarkerError
from pytest_celerypool.keys import HOST, HOST_NAME, PLACE, PLACED_BY, POLICIES, SETTINGS
from pytest_celerypool.markers import WITH_WORKER, Markers, PoolsSpec, wants_worker
from pytest_celerypool.markers import read as read_markers
from pytest_celerypool.pools import POOLS, Pool, missing
from pytest_celerypool.settings import Settings
from pytest_celerypool.surface import AXIS, CLUSTER, CONTRIB_AXIS, WORKER, is_our_mark, reaches_contrib


@dataclass(frozen=True)
class Variant:
    """One value of the axis: a pool, and the slots if the test's marker says how many."""

    pool: Pool
    concurrency: int | None = None

    @property
    def id(self) -> str:
        """What stands for it in a test's id."""
        return self.pool.name if self.concurrency is None else f"{self.pool.name}-{self.concurrency}"


@functools.cache
def variant(pool: Pool, concurrency: int | None = None) -> Variant:
    """Return *the* :class:`Variant` of these values: pytest compares the values of parameters by identity."""
    return Variant(pool, concurrency)


class PoolName(str):
    """The name of a pool as a value of contrib's ``celery_worker_pool``, which is a string in every suite."""

    pool: Pool

    @classmethod
    def of(cls, pool: Pool) -> PoolName:
        """Return a new name of `pool`."""
        name = cls(pool.name)
        name.pool = pool
        return name


class OwnPool(PoolName):
    """Stands for what a suite's own ``celery_worker_pool`` gives; another fixture of that name is another value."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


@functools.cache
def pool_name(pool: Pool) -> PoolName:
    """Return *the* name of `pool`: pytest compares the values of parameters by identity."""
    return PoolName.of(pool)


@dataclass(frozen=True)
class Place:
    """Where a test stands in the matrix: ``test`` is its node id without the axis, ``column`` the axis' id."""

    test: str
    column: str


#: The column of the tests whose workers' pools are named in the test itself.
CLUSTER_COLUMN = "cluster"


#: Why a test is skipped that its ``celery_pools`` leaves no pool.
_NONE_LEFT = "celery_pools leaves none of the pools that this run chose"


#: Variant, slots and options: what distinguishes the workers of one application.
Need = tuple[Variant, int | None, tuple[str, ...]]


def has_worker(names: Sequence[str], node: Any) -> bool:
    """Whether a test has a worker of ours: through its fixtures, or through one of the first three markers.

    The marker ``celery_pools`` alone gives none to a test that has one of contrib's: there it says under which pools.
    """
    return any(name in (AXIS, WORKER, CLUSTER) for name in names) or marks_give_worker(names, node.iter_markers())


def marks_give_worker(names: Sequence[str], marks: Iterable[pytest.Mark]) -> bool:
    """Whether any of some marks gives a test a worker of ours, as `has_worker` says; `names` are its fixtures."""
    giving = ("celery_expect", "celery_budget") if reaches_contrib(names) else WITH_WORKER
    return any(mark.name in giving for mark in marks)


def parametrize(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Run a test that has a worker once for each of its pools."""
    names = metafunc.fixturenames
    # The pools of a cluster are named in the test; it may take them from the axis.
    if has_worker(names, metafunc.definition) and (CLUSTER not in names or AXIS in names):
        parametrize_all(metafunc, settings)


def parametrize_all(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Run a test once for each of its pools, unless it says itself which.

    Where its parameter sets differ in their pools, it is once for each that any of them has; `settle` takes the others
    away from each.
    """
    if parametrised_by_hand(metafunc, AXIS):
        return
    found = [variants_for(metafunc.definition, settings, marks) for marks in ((), *marks_of_sets(metafunc))]
    variants = list(dict.fromkeys(each for variants in found for each in variants))
    if variants:
        _give_axis(metafunc, variants)


def _give_axis(metafunc: pytest.Metafunc, variants: Iterable[Variant]) -> None:
    if AXIS not in metafunc.fixturenames:
        metafunc.fixturenames.append(AXIS)
    params = [parameter(each, each.pool, each.id) for each in variants]
    metafunc.parametrize(AXIS, params, indirect=True, scope="session")


def variants_for(definition: Any, settings: Settings, marks: Sequence[pytest.Mark] = ()) -> list[Variant]:
    """Return the variants that a test runs under, perhaps none.

    :param marks: those of one of its parameter sets.
    """
    try:
        spec = markers_of(definition, marks).pools
    except MarkerError:
        # The test's set-up says what is wrong, once.
        spec, settings = None, replace(settings, pools=(settings.pools or POOLS)[:1])
    return variants_of(spec, settings)


def variants_of(spec: PoolsSpec | None, settings: Settings) -> list[Variant]:
    """Return the variants that a test with that ``celery_pools`` marker runs under, perhaps none."""
    spec = spec or PoolsSpec()
    default = (POOLS[0],)
    processors = os.cpu_count() or 1
    return [
        variant(pool, count)
        for pool in spec.select(settings.pools, default)
        for count in spec.concurrencies(pool, processors)
    ]


def parametrised_by_hand(metafunc: pytest.Metafunc, axis: str) -> bool:
    """Whether a test has a ``parametrize`` of its own for the fixture `axis`."""
    return any(
        axis in [name.strip() for name in _argnames(mark)]
        for mark in metafunc.definition.iter_markers(name="parametrize")
    )


def marks_of_sets(metafunc: pytest.Metafunc) -> Iterator[list[pytest.Mark]]:
    """Return our marks on each of a test's parameter sets that has any, as far as they are known already.

    An iterator is left alone: it could be read only once.
    """
    values = [value for mark in metafunc.definition.iter_markers(name="parametrize") for value in _argvalues(mark)]
    for name in metafunc.fixturenames:
        if not parametrised_by_hand(metafunc, name):
            values += _params_of_fixture(metafunc, name)
    sets: list[Iterable[Any]] = [value.marks for value in values if isinstance(value, ParameterSet)]
    for marks in (*sets, *(call.marks for call in metafunc._calls)):
        ours: list[pytest.Mark] = [mark for each in marks if is_our_mark(mark := getattr(each, "mark", each))]
        if ours:
            yield ours


def _params_of_fixture(metafunc: pytest.Metafunc, name: str) -> Sequence[object]:
    """Return the ``params`` by which pytest will parametrise a fixture: the nearest of those that it overrides."""
    for fixturedef in reversed(metafunc._arg2fixturedefs.get(name, ())):
        if fixturedef.params is not None or name not in fixturedef.argnames:
            return fixturedef.params or ()
    return ()


def _argvalues(mark: pytest.Mark) -> Collection[object]:
    values = mark.args[1] if len(mark.args) > 1 else mark.kwargs.get("argvalues", ())
    return values if isinstance(values, Collection) else ()


def settle(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Give each parameter set, once all are known, what its own marks say: a worker, and the pools."""
    if any(AXIS in call.params for call in metafunc._calls):
        allowed = _by_marks(lambda marks: variants_for(metafunc.definition, settings, marks))
        narrow(metafunc, AXIS, lambda value, marks: value in allowed(marks))
    calls = metafunc._calls
    made = []
    for call in calls:
        metafunc._calls = [call]
        if _needs_axis(metafunc, call):
            variants = variants_for(metafunc.definition, settings, call.marks)
            if variants:
                _give_axis(metafunc, variants)
        made += metafunc._calls
    metafunc._calls = made


def _needs_axis(metafunc: pytest.Metafunc, call: Any) -> bool:
    """Whether a parameter set has a worker through its own marks alone, and no pool yet."""
    names = metafunc.fixturenames
    return (
        AXIS not in call.params
        and not isinstance(call.params.get(CONTRIB_AXIS), PoolName)
        and (CLUSTER not in names or AXIS in names)
        and marks_give_worker(names, call.marks)
    )


def _by_marks(function: Callable[[Sequence[pytest.Mark]], Collection[Any]]) -> Callable[[Any], Collection[Any]]:
    """Return `function`, which depends on our marks, and is asked once for the many parameter sets without any."""
    without = functools.cache(lambda: function(()))
    return lambda marks: function(marks) if any(map(is_our_mark, marks)) else without()


def narrow(metafunc: pytest.Metafunc, axis: str, allows: Callable[[Any, Sequence[pytest.Mark]], bool]) -> None:
    """Take the pools away from each parameter set that its marks leave out; `place` skips one that loses all.

    :param allows: says whether a value of the axis is one for the marks of a parameter set.
    """
    sets: dict[frozenset[tuple[str, int]], list[Any]] = {}
    for call in metafunc._calls:
        key = frozenset((name, index) for name, index in call.indices.items() if name != axis)
        sets.setdefault(key, []).append(call)
    kept: set[int] = set()
    for calls in sets.values():
        fitting = [call for call in calls if _is_free(call.params.get(axis)) or allows(call.params[axis], call.marks)]
        kept.update(map(id, fitting or calls[:1]))
    metafunc._calls = [call for call in metafunc._calls if id(call) in kept]


def _is_free(value: object) -> bool:
    """Whether a value of an axis is none of ours: the test's own choice."""
    return not isinstance(value, Variant | PoolName)


def _argnames(mark: pytest.Mark) -> Sequence[str]:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", "")
    return names.split(",") if isinstance(names, str) else names


def parameter(value: object, pool: Pool, ident: str) -> Any:
    """Return the parameter for one pool; without what the pool needs it is a skipped one, whose reason says so."""
    reason = missing(pool)
    marks = () if reason is None else (pytest.mark.skip(reason=reason),)
    return pytest.param(value, id=ident, marks=marks)


def place(item: pytest.Item, settings: Settings) -> None:
    """Note where an item stands in the matrix, give it its worker, and have pytest group it with its pool."""
    if not isinstance(item, pytest.Function):
        return
    item.stash[PLACED_BY] = _our_marks(item)
    found = _value_of(item)
    if found is None and CLUSTER in item.fixturenames:
        item.stash[PLACE] = Place(item.nodeid, CLUSTER_COLUMN)
        return
    if found is None:
        if has_worker(item.fixturenames, item) or _is_contribs(item, settings):
            _place_without_value(item, settings)
        return
    axis, value = found
    reason = _left_out(item, value.pool, settings)
    if reason is not None:
        item.add_marker(pytest.mark.skip(reason=reason))
        return
    if axis == AXIS and CLUSTER not in item.fixturenames and wants_worker(lambda name: item.iter_markers(name=name)):
        _give_worker(item)
    callspec: Any = getattr(item, "callspec", None)
    item.stash[PLACE] = Place(_without(item.nodeid, callspec.id, value.id), value.id)
    # pytest groups by the index in each test's own list, and these lists differ.
    callspec.indices[axis] = _rank(value, settings.pools or POOLS)
    ours = CLUSTER not in item.fixturenames and launch_of(item, settings) == "inprocess"
    _note_host(item, value.pool, inprocess=axis == CONTRIB_AXIS or ours)


def place_again(item: pytest.Item, settings: Settings) -> None:
    """Place an item anew if marks were added to it since it was collected."""
    before, now = item.stash.get(PLACED_BY, []), _our_marks(item)
    if len(before) != len(now) or any(one is not other for one, other in zip(before, now, strict=True)):
        place(item, settings)


def _our_marks(item: pytest.Item) -> list[pytest.Mark]:
    return [mark for mark in item.iter_markers() if is_our_mark(mark)]


def _left_out(item: pytest.Item, pool: Pool, settings: Settings) -> str | None:
    """Return why an item that was multiplied for a pool must not run under it, ``None`` if it may."""
    try:
        spec = markers_of(item).pools or PoolsSpec()
    except MarkerError:
        return None
    allowed = spec.select(settings.pools, (POOLS[0],), own=True)
    if pool in allowed:
        return None
    if not allowed:
        return _NONE_LEFT
    if settings.pools is None:
        names = ", ".join(each.name for each in allowed)
        return (
            f"celery_pools leaves out {pool}, and came too late to choose {names}: "
            "put it on the function, or choose the pool with --celery-pools"
        )
    return f"celery_pools leaves out {pool}"


def _give_worker(item: pytest.Function) -> None:
    if WORKER not in item.fixturenames:
        # A list of its own: the parameter sets of a function share one, and not all of them may have a worker.
        item.fixturenames = [*item.fixturenames, WORKER]


def _note_host(item: pytest.Item, pool: Pool, *, inprocess: bool) -> None:
    host = host_for(pool, item.config) if inprocess else None
    if host is not None:
        item.stash[HOST] = host


def _value_of(item: pytest.Item) -> tuple[str, Variant] | None:
    """Return the axis on which an item was multiplied and its value there, ``None`` if it was on none."""
    callspec = getattr(item, "callspec", None)
    params = {} if callspec is None else callspec.params
    if isinstance(params.get(AXIS), Variant):
        return AXIS, params[AXIS]
    name = params.get(CONTRIB_AXIS)
    return (CONTRIB_AXIS, variant(name.pool)) if isinstance(name, PoolName) else None


def pool_of_variant(item: pytest.Item) -> Pool | None:
    """Return the pool that an item was multiplied for on our own axis, ``None`` if it was not."""
    found = _value_of(item)
    return found[1].pool if found is not None and found[0] == AXIS else None


def _is_contribs(item: pytest.Function, settings: Settings) -> bool:
    """Whether an item is one that contrib's fixtures would multiply, if there were a pool left for it."""
    callspec = getattr(item, "callspec", None)
    by_hand = callspec is not None and CONTRIB_AXIS in callspec.params
    return settings.pools is not None and not by_hand and reaches_contrib(item.fixturenames)


def markers_of(item: pytest.Item, marks: Sequence[pytest.Mark] = ()) -> Markers:
    """Return the markers of a test; raises :exc:`~pytest_celerypool.errors.MarkerError` if one is wrong.

    :param marks: those of one of its parameter sets, if `item` is the definition of them all.
    """
    # Nearer than the function's, behind which pytest puts them.
    nearest = [*marks, *getattr(getattr(item, "callspec", None), "marks", ())]

    def iter_markers(name: str) -> Iterator[pytest.Mark]:
        yield from (mark for mark in nearest if mark.name == name)
        yield from (mark for mark in item.iter_markers(name=name) if not any(mark is each for each in nearest))

    return read_markers(iter_markers, item.config.stash[POLICIES].kinds)


def launch_of(item: pytest.Item, settings: Settings) -> str:
    """Return how the worker of a test comes to life; a test with a wrong marker gets none, so that it says nothing."""
    try:
        spec = markers_of(item).pools or PoolsSpec()
    except MarkerError:
        return settings.launch
    return spec.launch or settings.launch


def host_for(pool: Pool, config: pytest.Config) -> str | None:
    """Return the name of the host that runs the ``inprocess`` tests of a pool, ``None`` where this process can.

    A green pool needs a process that its library has patched before anything else was imported, prefork one that has no
    threads when it forks. Neither library is imported to look for that.
    """
    if not (pool.green or pool.forks) or getattr(config, "workerinput", {}).get(HOST_NAME) == pool.name:
        return None
    # As which somebody may have started this process: see pytest_celerypool.host.
    itself = config.pluginmanager.hasplugin(f"celerypool-host-{pool.name}")
    return None if itself or (pool.green and _patched_by(pool.name)) else pool.name


def _patched_by(library: str) -> bool:
    """Whether gevent or eventlet has patched this process."""
    if library == "gevent":
        module = sys.modules.get("gevent.monkey")
        return module is not None and bool(module.is_module_patched("socket"))
    module = sys.modules.get("eventlet.patcher")
    return module is not None and bool(module.is_monkey_patched("socket"))


def _place_without_value(item: pytest.Function, settings: Settings) -> None:
    """Place a test that was not multiplied: it runs once, under the first of its pools, and is skipped if none is left.

    That is one of a ``unittest.TestCase``, one that was marked when it had been collected, or one that says its pool
    itself.
    """
    if not has_worker(item.fixturenames, item):
        if _leaves_contribs_none(item, settings):
            item.add_marker(pytest.mark.skip(reason=_NONE_LEFT))
        return
    by_hand = AXIS in getattr(getattr(item, "callspec", None), "params", ())
    first = None if by_hand else first_variant(item, settings)
    reason = None if by_hand else _NONE_LEFT if first is None else missing(first.pool)
    if reason is not None:
        item.add_marker(pytest.mark.skip(reason=reason))
        return
    if marks_give_worker(item.fixturenames, item.iter_markers()):
        _give_worker(item)
    if first is not None and WORKER in item.fixturenames:
        _note_host(item, first.pool, inprocess=launch_of(item, settings) == "inprocess")


def _leaves_contribs_none(item: pytest.Item, settings: Settings) -> bool:
    """Whether ``celery_pools`` leaves no pool for a test that has contrib's worker and none of ours."""
    try:
        spec = markers_of(item).pools or PoolsSpec()
    except MarkerError:
        return False
    return not spec.select(settings.pools, (), own=True)


def first_variant(item: pytest.Item, settings: Settings) -> Variant | None:
    """Return the variant under which a test that was not multiplied runs, ``None`` if its marker leaves it none."""
    variants = variants_for(item, settings)
    if not variants and not any(True for _ in item.iter_markers(name="celery_pools")):
        return variant((settings.pools or POOLS)[0])
    return variants[0] if variants else None


def _rank(value: Variant, order: Sequence[Pool]) -> int:
    known = [*order, *(pool for pool in POOLS if pool not in order)]
    position = known.index(value.pool) if value.pool in known else len(known)
    return position * 10_000 + (value.concurrency or 0)


def _without(nodeid: str, ids: str, own: str) -> str:
    """Return a node id without the axis' part between its brackets."""
    head = nodeid.removesuffix(f"[{ids}]")
    if ids == own:
        return head
    parts = f"-{ids}-".replace(f"-{own}-", "-", 1).strip("-")
    return f"{head}[{parts}]"


def need_of(item: pytest.Item) -> Need | None:
    """Return what worker an item will need, ``None`` if it needs none, or one of its own."""
    callspec = getattr(item, "callspec", None)
    value = callspec.params.get(AXIS) if callspec is not None else None
    if not isinstance(value, Variant) or CLUSTER in getattr(item, "fixturenames", ()):
        return None
    try:
        spec = markers_of(item).pools or PoolsSpec()
    except MarkerError:
        return None
    launch = spec.launch or item.config.stash[SETTINGS].launch
    if spec.fresh or launch == "inprocess" or any(mark.name == "skip" for mark in item.iter_markers()):
        return None
    return value, slots_of(value, spec), spec.options


def slots_of(value: Variant, spec: PoolsSpec) -> int | None:
    """Return the slots that a test's marker asks for under `value`, ``None`` if it does not."""
    return spec.concurrency if isinstance(spec.concurrency, int) else value.concurrency


def group_for_xdist(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Put the tests of a pool into one group where xdist distributes by group and the user named none."""
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        if PLACE in item.stash and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.stash[PLACE].column))
