"""What is multiplied: which tests have a worker, and under which pools each of them runs."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pytest_celerypool.errors import MarkerError
from pytest_celerypool.keys import PLACE
from pytest_celerypool.markers import PoolsSpec, wants_worker
from pytest_celerypool.markers import read as read_markers
from pytest_celerypool.pools import POOLS, Pool, missing
from pytest_celerypool.settings import Settings
from pytest_celerypool.surface import AXIS, WORKER


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


@dataclass(frozen=True)
class Place:
    """Where a test stands in the matrix: ``test`` is its node id without the axis, ``column`` the axis' id."""

    test: str
    column: str


#: Variant, slots and options: what distinguishes the workers of one application.
Need = tuple[Variant, int | None, tuple[str, ...]]


def has_worker(names: Iterable[str], node: Any) -> bool:
    """Whether a test has a worker: through its fixtures, or through one of the first three markers."""
    return any(name in (AXIS, WORKER) for name in names) or wants_worker(lambda name: node.iter_markers(name=name))


def parametrize(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Run a test that has a worker once for each of its pools."""
    if not has_worker(metafunc.fixturenames, metafunc.definition):
        return
    if _parametrised_by_hand(metafunc):
        return
    try:
        spec = read_markers(lambda name: metafunc.definition.iter_markers(name=name)).pools
    except MarkerError:
        # The test's set-up says what is wrong, once.
        spec, settings = None, replace(settings, pools=(settings.pools or POOLS)[:1])
    variants = variants_of(spec, settings)
    if not variants:
        return
    if AXIS not in metafunc.fixturenames:
        metafunc.fixturenames.append(AXIS)
    metafunc.parametrize(AXIS, [_parameter(each) for each in variants], indirect=True, scope="session")


def variants_of(spec: PoolsSpec | None, settings: Settings) -> list[Variant]:
    """Return the variants that a test with that ``celery_pools`` marker runs under, perhaps none."""
    spec = spec or PoolsSpec()
    default = (POOLS[0],)
    counts = spec.concurrency if isinstance(spec.concurrency, tuple) else (None,)
    return [variant(pool, count) for pool in spec.select(settings.pools, default) for count in counts]


def _parametrised_by_hand(metafunc: pytest.Metafunc) -> bool:
    return any(
        AXIS in [name.strip() for name in _argnames(mark)]
        for mark in metafunc.definition.iter_markers(name="parametrize")
    )


def _argnames(mark: pytest.Mark) -> Sequence[str]:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", "")
    return names.split(",") if isinstance(names, str) else names


def _parameter(each: Variant) -> Any:
    reason = missing(each.pool)
    marks = () if reason is None else (pytest.mark.skip(reason=reason),)
    return pytest.param(each, id=each.id, marks=marks)


def place(item: pytest.Item, order: Sequence[Pool]) -> None:
    """Note where an item stands in the matrix, give it its worker, and have pytest group it with its pool.

    :param order: the pools of the run in their order.
    """
    if not isinstance(item, pytest.Function):
        return
    callspec: Any = getattr(item, "callspec", None)
    value = callspec.params.get(AXIS) if callspec is not None else None
    if not isinstance(value, Variant):
        if has_worker(item.fixturenames, item):
            _place_without_variant(item)
        return
    if WORKER not in item.fixturenames and wants_worker(lambda name: item.iter_markers(name=name)):
        item.fixturenames.append(WORKER)
    item.stash[PLACE] = Place(_without(item.nodeid, callspec.id, value.id), value.id)
    # pytest groups by the index in each test's own list, and these lists differ.
    callspec.indices[AXIS] = _rank(value, order)


def _place_without_variant(item: pytest.Function) -> None:
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
    if not isinstance(value, Variant):
        return None
    try:
        spec = read_markers(lambda name: item.iter_markers(name=name)).pools or PoolsSpec()
    except MarkerError:
        return None
    if spec.fresh or any(mark.name == "skip" for mark in item.iter_markers()):
        return None
    return value, slots_of(value, spec), spec.options


def slots_of(value: Variant, spec: PoolsSpec) -> int | None:
    """Return the slots that a test's marker asks for under `value`, ``None`` if it does not."""
    return value.concurrency if isinstance(spec.concurrency, tuple) else spec.concurrency


def group_for_xdist(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Put the tests of a pool into one group where xdist distributes by group and the user named none."""
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        if PLACE in item.stash and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.stash[PLACE].column))
