"""What is multiplied: which tests have a worker, and under which pools each of them runs."""

from __future__ import annotations

import functools
import os
import sys
import unittest
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pytest_celerypool.errors import MarkerError
from pytest_celerypool.keys import HOST, HOST_NAME, PLACE, POLICIES, SETTINGS
from pytest_celerypool.markers import Markers, PoolsSpec, wants_worker
from pytest_celerypool.markers import read as read_markers
from pytest_celerypool.pools import POOLS, Pool, missing
from pytest_celerypool.settings import Settings
from pytest_celerypool.surface import AXIS, CLUSTER, CONTRIB_AXIS, WORKER, reaches_contrib


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


#: Variant, slots and options: what distinguishes the workers of one application.
Need = tuple[Variant, int | None, tuple[str, ...]]


def has_worker(names: Sequence[str], node: Any) -> bool:
    """Whether a test has a worker of ours: through its fixtures, or through one of the first three markers.

    The marker ``celery_pools`` alone gives none to a test that has one of contrib's: there it says under which pools.
    """
    if any(name in (AXIS, WORKER, CLUSTER) for name in names):
        return True
    if reaches_contrib(names):
        return any(True for name in ("celery_expect", "celery_budget") for _ in node.iter_markers(name=name))
    return wants_worker(lambda name: node.iter_markers(name=name))


def parametrize(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Run a test that has a worker once for each of its pools."""
    names = metafunc.fixturenames
    # The pools of a cluster are named in the test; it may take them from the axis.
    if has_worker(names, metafunc.definition) and (CLUSTER not in names or AXIS in names):
        parametrize_all(metafunc, settings)


def parametrize_all(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Run a test once for each of its pools, unless it says itself which."""
    if parametrised_by_hand(metafunc, AXIS):
        return
    try:
        spec = markers_of(metafunc.definition).pools
    except MarkerError:
        # The test's set-up says what is wrong, once.
        spec, settings = None, replace(settings, pools=(settings.pools or POOLS)[:1])
    variants = variants_of(spec, settings)
    if not variants:
        return
    if AXIS not in metafunc.fixturenames:
        metafunc.fixturenames.append(AXIS)
    params = [parameter(each, each.pool, each.id) for each in variants]
    metafunc.parametrize(AXIS, params, indirect=True, scope="session")


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
    found = _value_of(item)
    if found is None and CLUSTER in item.fixturenames:
        item.stash[PLACE] = Place(item.nodeid, CLUSTER_COLUMN)
        return
    if found is None:
        if has_worker(item.fixturenames, item) or _is_contribs(item, settings):
            _place_without_value(item)
        return
    axis, value = found
    wanting = wants_worker(lambda name: item.iter_markers(name=name)) and CLUSTER not in item.fixturenames
    if axis == AXIS and WORKER not in item.fixturenames and wanting:
        item.fixturenames.append(WORKER)
    callspec: Any = getattr(item, "callspec", None)
    item.stash[PLACE] = Place(_without(item.nodeid, callspec.id, value.id), value.id)
    # pytest groups by the index in each test's own list, and these lists differ.
    callspec.indices[axis] = _rank(value, settings.pools or POOLS)
    ours = CLUSTER not in item.fixturenames and launch_of(item, settings) == "inprocess"
    inprocess = axis == CONTRIB_AXIS or ours
    host = host_for(value.pool, item.config) if inprocess else None
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


def markers_of(item: pytest.Item) -> Markers:
    """Return the markers of a test; raises :exc:`~pytest_celerypool.errors.MarkerError` if one is wrong."""
    return read_markers(lambda name: item.iter_markers(name=name), item.config.stash[POLICIES].kinds)


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


def _place_without_value(item: pytest.Function) -> None:
    """Skip a test that no pool is left for; a ``unittest.TestCase`` is not multiplied, but has its worker."""
    if item.cls is not None and issubclass(item.cls, unittest.TestCase):
        if WORKER not in item.fixturenames and wants_worker(lambda name: item.iter_markers(name=name)):
            item.fixturenames.append(WORKER)
        return
    if any(True for _ in item.iter_markers(name="celery_pools")):
        item.add_marker(pytest.mark.skip(reason="celery_pools leaves none of the pools that this run chose"))


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
