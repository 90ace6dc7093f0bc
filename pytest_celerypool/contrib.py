"""Suites written for ``celery.contrib.pytest``: run each test with one of its workers under every pool of the run.

Their fixture ``celery_worker_pool`` is the axis. What they define of it themselves stays below the parameter, as an
overridden fixture does, so that the pool ``own`` can give it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_celerypool.errors import MarkerError, known_to_pytest
from pytest_celerypool.keys import (
    CONTRIB_DEPENDENTS,
    DEMANDS,
    MARKERS,
    NOTES,
    OWN_POOLS,
    POLICIES,
    RESULT,
    SESSION_WORKERS,
)
from pytest_celerypool.markers import Markers, PoolsSpec
from pytest_celerypool.onlooker import policy_for_suite
from pytest_celerypool.pools import OWN, Pool
from pytest_celerypool.settings import Settings
from pytest_celerypool.standin import findings, in_place_of_start_worker, noting_tasks, replace_if_stuck
from pytest_celerypool.surface import CONTRIB_AXIS, CONTRIB_SESSION_APP, CONTRIB_WORKERS
from pytest_celerypool.variants import (
    OwnPool,
    PoolName,
    has_worker,
    markers_of,
    marks_of_sets,
    narrow,
    parameter,
    parametrised_by_hand,
    pool_name,
)
from pytest_celerypool.verdict import Failure, nature
from pytest_celerypool.verdict.findings import headline
from pytest_celerypool.verdict.findings import judge as judge_findings

# -- collection


def parametrize(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Run a test that has a worker of contrib's once for each pool of the run; one that has ours too follows ours."""
    fixtures: Any = metafunc._arg2fixturedefs
    if (
        has_worker(metafunc.fixturenames, metafunc.definition)
        or not any(_reaches_axis(name, fixtures) for name in CONTRIB_WORKERS if name in metafunc.fixturenames)
        or _has_values_of_its_own(metafunc)
    ):
        return
    found = [_pools(metafunc, settings, marks) for marks in ((), *marks_of_sets(metafunc))]
    pools = tuple(dict.fromkeys(pool for pools in found for pool in pools))
    if pools:
        suites_own = fixtures[CONTRIB_AXIS]
        params = [parameter(_value(pool, metafunc), pool, pool.name) for pool in pools]
        scope: Any = suites_own[-1].scope if OWN in pools else "session"
        metafunc.parametrize(CONTRIB_AXIS, params, scope=scope)
        fixtures[CONTRIB_AXIS] = [*suites_own, *fixtures[CONTRIB_AXIS]]


def settle(metafunc: pytest.Metafunc, settings: Settings) -> None:
    """Take the pools away from each parameter set that its own marks leave out."""
    narrow(metafunc, CONTRIB_AXIS, lambda value, marks: value.pool in _pools(metafunc, settings, marks))


def _pools(metafunc: pytest.Metafunc, settings: Settings, marks: Sequence[pytest.Mark]) -> tuple[Pool, ...]:
    try:
        spec = markers_of(metafunc.definition, marks).pools
    except MarkerError:
        # The test's set-up says what is wrong, once.
        spec, settings = None, replace(settings, pools=(settings.pools or (OWN,))[:1])
    return (spec or PoolsSpec()).select(settings.pools, (), own=True)


def _reaches_axis(name: str, fixtures: Mapping[str, Sequence[Any]], seen: frozenset[str] = frozenset()) -> bool:
    """Whether the fixture `name` needs ``celery_worker_pool``, directly or not."""
    needed: set[str] = set()
    for fixturedef in reversed(fixtures.get(name, ())):
        needed.update(fixturedef.argnames)
        if name not in fixturedef.argnames:
            break  # it overrides those before it without asking for them
    if CONTRIB_AXIS in needed:
        return True
    seen |= {name}
    return any(_reaches_axis(other, fixtures, seen) for other in needed - seen)


def _has_values_of_its_own(metafunc: pytest.Metafunc) -> bool:
    """Whether the suite gives ``celery_worker_pool`` its values: by a marker, a hook, or the fixture's ``params``."""
    if parametrised_by_hand(metafunc, CONTRIB_AXIS):
        return True
    if any(CONTRIB_AXIS in call.params for call in metafunc._calls):
        return True
    fixturedefs: Any = metafunc._arg2fixturedefs[CONTRIB_AXIS]
    return any(fixturedef.params is not None for fixturedef in fixturedefs)


def _value(pool: Pool, metafunc: pytest.Metafunc) -> PoolName:
    """Return the value of the axis for a pool; for ``own`` there is one for each fixture that it may stand for."""
    if pool != OWN:
        return pool_name(pool)
    values = metafunc.definition.session.stash.setdefault(OWN_POOLS, {})
    fixturedef = metafunc._arg2fixturedefs[CONTRIB_AXIS][-1]
    return values.setdefault(fixturedef, OwnPool.of(OWN))


def pool_of(item: pytest.Item) -> Pool | None:
    """Return the pool for which a test of contrib's was multiplied, ``None`` if it was not."""
    value = _value_in(item)
    return value.pool if isinstance(value, PoolName) else None


def _value_in(item: pytest.Item) -> Any:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get(CONTRIB_AXIS)


def lend_session_worker(items: Sequence[pytest.Item]) -> None:
    """Give contrib's session worker to tests that have its application and rely on the worker of others.

    In the suite as it was such a test found the worker of an earlier one alive. Here that may live in a host.
    """
    worker = CONTRIB_WORKERS[1]
    if not any(worker in getattr(item, "fixturenames", ()) for item in items):
        return
    for item in items:
        names: Any = getattr(item, "fixturenames", ())
        if CONTRIB_SESSION_APP in names and not any(name in names for name in CONTRIB_WORKERS):
            names.insert(0, worker)  # as a session fixture it comes before those of the test


def end_session_workers(config: pytest.Config) -> None:
    """End the session workers of this process before a test of a host: both would consume a suite's queue.

    pytest would end them with the last of their tests only if it knew that the next one is not run here.
    """
    fixtures: list[tuple[Any, Any]] = config.stash.get(SESSION_WORKERS, [])
    finish_all(fixtures, config)
    config.stash[SESSION_WORKERS] = []


def finish_all(fixtures: Iterable[tuple[Any, Any]], config: pytest.Config) -> None:
    """End fixtures, each given with the request that it was set up for, and what depends on them."""
    for fixturedef, request in fixtures:
        if fixturedef.cached_result is None:
            continue
        try:
            fixturedef.finish(request)
        except Exception as exc:  # noqa: BLE001 - it is a suite's fixture, and the test that comes is not to blame
            config.stash[NOTES].append(f"{fixturedef.argname} failed at its end: {exc!r}")


# -- set-up


def set_up(fixturedef: Any, request: Any) -> Generator[None, object, object]:
    """Set up one fixture: the axis gets its value, contrib's workers get their stand-in."""
    _tell_pools_apart(fixturedef, request)
    value = getattr(request, "param", None)
    if fixturedef.argname == CONTRIB_AXIS and isinstance(value, PoolName) and _is_outermost(fixturedef, request):
        # The suite's own fixture is the one that the parameter overrides: pytest knows how to set that up.
        with known_to_pytest(fixturedef, request):
            result = request.getfixturevalue(CONTRIB_AXIS) if isinstance(value, OwnPool) else str(value)
        yield
        fixturedef.cached_result = (result, fixturedef.cache_key(request), None)
        return result
    if fixturedef.argname == CONTRIB_WORKERS[1]:
        request.config.stash.setdefault(SESSION_WORKERS, []).append((fixturedef, request))
    pool = pool_of(request._pyfuncitem) if fixturedef.argname in CONTRIB_WORKERS else None
    if pool is None:
        return (yield)
    with known_to_pytest(fixturedef, request), in_place_of_start_worker(request._pyfuncitem, pool):
        return (yield)


def _is_outermost(fixturedef: Any, request: Any) -> bool:
    return request._arg2fixturedefs[CONTRIB_AXIS][-1] is fixturedef


def _tell_pools_apart(fixturedef: Any, request: Any) -> None:
    """Have pytest keep the value of a fixture that depends on the pool only for tests under the same pool.

    It does so by itself for the axis, and ends with it whatever was set up through it; but one test reaches the axis
    through its parameter, another, which is not multiplied, through the suite's own fixture, and a session worker that
    was set up for the one would be given to the other.
    """
    dependents = request.config.stash.setdefault(CONTRIB_DEPENDENTS, {CONTRIB_AXIS})
    if fixturedef.argname in dependents or not dependents.isdisjoint(fixturedef.argnames):
        for each in (fixturedef, *(above._fixturedef for above in request._iter_chain())):
            dependents.add(each.argname)
            if "cache_key" not in vars(each):
                each.cache_key = _keyed_by_pool(each.cache_key)


def _keyed_by_pool(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    pairs: dict[tuple[int, int], tuple[Any, Any]] = {}

    def cache_key(request: Any) -> Any:
        own, pool = original(request), _value_in(request._pyfuncitem)
        if pool is None or own is pool:
            return own
        # Some versions of pytest compare keys by identity; the pair keeps both alive, and so their ids.
        return pool if own is None else pairs.setdefault((id(own), id(pool)), (own, pool))

    return cache_key


# -- a test and its end


def call(item: pytest.Item) -> Generator[None, object, object]:
    """Run the body of a test."""
    if pool_of(item) is None:
        return (yield)
    from pytest_celerypool.agent.demands import seen_demands

    with noting_tasks(item.config), seen_demands() as item.stash[DEMANDS]:
        try:
            result = yield
        finally:
            failures = _judge(item)
    if failures:
        pytest.fail("\n\n".join(map(str, failures)), pytrace=False)
    return result


def _judge(item: pytest.Item) -> list[Failure]:
    """Keep what the agent found for the test's report; returns what fails it, which only the user's choice does."""
    policies = item.config.stash[POLICIES]
    judged = judge_findings(
        findings(item.config),
        lambda kind: policy_for_suite(policies, kind),
        item.stash.get(MARKERS, Markers()).allows,
    )
    item.stash[RESULT] = {"findings": judged.data()}
    item.user_properties += [("celery_finding", headline(finding)) for finding, _ in judged.findings]
    return judged.failures


def nature_of(item: pytest.Item, report: pytest.TestReport) -> list[tuple[str, str]]:
    """Return the section of a failing report that says what its pool does not do, if the test demanded that."""
    pool = pool_of(item)
    if pool is None:
        return []
    demands: set[str] = item.stash[DEMANDS]
    lines = nature.reasons(pool, demands, report.longreprtext)
    return [(f"Celery: the nature of {pool}", "\n".join(lines))] if lines else []


def after_test(item: pytest.Item) -> None:
    """Replace a worker that a test left with a task that does not end, unless it ended with the test."""
    if pool_of(item) is not None:
        replace_if_stuck(item)


def reached_unmultiplied(item: pytest.Item) -> bool:
    """Whether a test that is not multiplied has set up, or been given, a worker of contrib's."""
    values = getattr(getattr(item, "_request", None), "_fixture_defs", {})
    return _value_in(item) is None and any(name in values for name in CONTRIB_WORKERS)
