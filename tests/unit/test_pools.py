import dataclasses
import importlib
import sys

import pytest

from pytest_celerypool.errors import SettingError, did_you_mean
from pytest_celerypool.pools import (
    FACTS,
    POOLS,
    Pool,
    absent,
    default_concurrency,
    lacking,
    missing,
    parse_pools,
    pool,
    sweep,
)

VALID = "Valid pools: prefork, solo, threads, gevent, eventlet, all, or pkg.module:TaskPool."


def names(pools):
    return [str(each) for each in pools]


def test_order():
    """The five pools stand in the order that `all` promises."""
    assert names(POOLS) == ["prefork", "solo", "threads", "gevent", "eventlet"]


def test_facts_are_described():
    """Every yes-or-no field of a pool has a sentence for the documentation, and nothing else has."""
    booleans = [field.name for field in dataclasses.fields(Pool) if field.type == "bool"]
    assert list(FACTS) == booleans
    assert all(text.endswith(".") for text in FACTS.values())


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        ("green", ["gevent", "eventlet"]),
        ("forks", ["prefork"]),
        ("preempts", ["prefork", "threads"]),
        ("enforces_soft_time_limit", ["prefork"]),
        ("enforces_hard_time_limit", ["prefork", "gevent"]),
        ("terminates_on_revoke", ["prefork", "gevent", "eventlet"]),
        ("sends_process_init", ["prefork", "solo"]),
        ("takes_concurrency", ["prefork", "threads", "gevent", "eventlet"]),
        ("grows", ["prefork", "gevent", "eventlet"]),
        ("replaces_children", ["prefork"]),
        ("answers_control_while_working", ["prefork", "threads", "gevent", "eventlet"]),
        ("allows_get_in_task", ["gevent", "eventlet"]),
        ("reports_system_exit", ["prefork"]),
    ],
)
def test_facts(fact, expected):
    """Each fact is true of exactly these pools."""
    assert [each.name for each in POOLS if getattr(each, fact)] == expected


@pytest.mark.parametrize("name", ["prefork", "solo", "threads"])
def test_facts_agree_with_celery(name):
    """What Celery's own pool classes say of themselves is what we say of them."""
    each = pool(name)
    module, attribute = each.path.split(":")
    implementation = getattr(importlib.import_module(module), attribute)
    assert implementation.is_green is each.green
    assert implementation.task_join_will_block is not each.allows_get_in_task


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prefork", ["prefork"]),
        ("gevent,prefork", ["gevent", "prefork"]),
        (" gevent , prefork ,", ["gevent", "prefork"]),
        ("solo,gevent,solo", ["solo", "gevent"]),
        ("all", ["prefork", "solo", "threads", "gevent", "eventlet"]),
        ("eventlet,all", ["eventlet", "prefork", "solo", "threads", "gevent"]),
        (["prefork", "gevent"], ["prefork", "gevent"]),
        (("prefork,solo", "threads"), ["prefork", "solo", "threads"]),
        ("proj.pools:TaskPool,solo", ["proj.pools:TaskPool", "solo"]),
    ],
)
def test_parse_pools(text, expected):
    """Pools come back in the user's order, each once."""
    assert names(parse_pools(text, "--celery-pools")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gevnt", f"--celery-pools: 'gevnt' is not a pool. {VALID} Did you mean 'gevent'?"),
        ("solo,Prefork", f"--celery-pools: 'Prefork' is not a pool. {VALID} Did you mean 'prefork'?"),
        ("thread", f"--celery-pools: 'thread' is not a pool. {VALID} Did you mean 'threads'?"),
        ("processes", f"--celery-pools: 'processes' is not a pool. {VALID} Did you mean 'prefork'?"),
        ("own", f"--celery-pools: 'own' is not a pool. {VALID}"),
        ("proj.pools.TaskPool", f"--celery-pools: 'proj.pools.TaskPool' is not a pool. {VALID}"),
        (":TaskPool", f"--celery-pools: ':TaskPool' is not a pool. {VALID}"),
        ("", f"--celery-pools: no pool is given. {VALID}"),
        (" , ", f"--celery-pools: no pool is given. {VALID}"),
        ([], f"--celery-pools: no pool is given. {VALID}"),
    ],
)
def test_parse_pools_refuses(text, message):
    """A name that is no pool is refused with what is valid and what may be meant."""
    with pytest.raises(SettingError) as error:
        parse_pools(text, "--celery-pools")
    assert str(error.value) == message


def test_custom_pool():
    """Nothing is expected of a custom pool, but that it takes a concurrency."""
    custom = pool("proj.pools:TaskPool")
    assert custom.custom
    assert custom.path == "proj.pools:TaskPool"
    assert [fact for fact in FACTS if getattr(custom, fact)] == ["takes_concurrency"]
    assert not any(each.custom for each in POOLS)


def test_pool_of_unknown_name():
    """A name that is neither one of the five nor a class is a KeyError."""
    with pytest.raises(KeyError, match="gevnt"):
        pool("gevnt")


def test_missing_library(monkeypatch):
    """A pool whose library is absent says how to install it."""
    monkeypatch.setitem(sys.modules, "gevent", None)
    assert missing(pool("gevent")) == "gevent is not installed: pip install gevent"


@pytest.mark.parametrize("name", ["prefork", "solo", "threads"])
def test_nothing_missing(name):
    """Celery itself is enough for the other pools."""
    assert missing(pool(name)) is None


def test_missing_does_not_import(pytester):
    """Looking for a library does not import it."""
    pytester.makepyfile(
        probe="""
        import sys
        from pytest_celerypool.pools import POOLS, missing
        assert [missing(each) for each in POOLS if each.library is None] == [None] * 3
        for each in POOLS:
            missing(each)
        assert not {"gevent", "eventlet", "celery"} & set(sys.modules)
        """
    )
    assert pytester.runpython("probe.py").ret == 0


def test_absent_custom(pytester):
    """The module of a custom pool has to be findable, in a package or not."""
    pytester.syspathinsert()
    pytester.mkpydir("celerypool_proj")
    pytester.makepyfile(**{"celerypool_proj/pools": "raise RuntimeError('imported')"})
    assert absent(pool("celerypool_proj.pools:TaskPool")) is None
    assert absent(pool("celerypool_proj.none:TaskPool")) == "celerypool_proj.none"
    assert absent(pool("celerypool_proj.pools.deeper:TaskPool")) is None  # whoever imports it learns why it raises
    assert absent(pool("celerypool_nowhere.pools:TaskPool")) == "celerypool_nowhere.pools"
    assert absent(pool("gevent")) is None


@pytest.mark.parametrize("source", ["import celerypool_library", "1 / 0", "from sys import nothing"])
def test_absent_custom_in_a_package_that_fails(pytester, source):
    """A module is not absent because its package cannot be imported."""
    pytester.syspathinsert()
    pytester.makepyfile(**{"celerypool_failing/__init__": source, "celerypool_failing/pools": ""})
    assert absent(pool("celerypool_failing.pools:TaskPool")) is None


def test_absent_custom_without_spec(monkeypatch):
    """A module that somebody made by hand counts as found."""
    monkeypatch.setitem(sys.modules, "handmade", type(sys)("handmade"))
    assert absent(pool("handmade:TaskPool")) is None


@pytest.mark.parametrize("name", ["proj", "proj.typo", "celery.typo", None, ""])
def test_lacking_of_the_projects_own(name):
    """What a custom pool's module cannot import is a mistake where it is no library that could be installed."""
    assert lacking(pool("proj.pools:TaskPool"), name) is None


def test_lacking_library():
    """A custom pool whose library is not installed says which."""
    assert lacking(pool("proj.pools:TaskPool"), "celerypool_library.deep") == (
        "celerypool_library is not installed, and the module of the pool proj.pools:TaskPool imports it: "
        "install what it belongs to"
    )


@pytest.mark.parametrize(
    ("name", "processors", "nodes", "expected"),
    [
        ("prefork", 1, 0, 1),
        ("prefork", 2, 0, 2),
        ("prefork", 64, 0, 4),
        ("prefork", 64, 2, 2),
        ("prefork", 64, 3, 1),
        ("prefork", 64, 16, 1),
        ("solo", 64, 0, 1),
        ("threads", 2, 0, 8),
        ("threads", 2, 4, 8),
        ("gevent", 2, 0, 100),
        ("eventlet", 2, 4, 100),
        ("proj.pools:TaskPool", 6, 0, 6),
    ],
)
def test_default_concurrency(name, processors, nodes, expected):
    """Only prefork's default depends on the machine and on how many share it."""
    assert default_concurrency(pool(name), processors, nodes) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [("SUCESS", " Did you mean 'SUCCESS'?"), ("success", " Did you mean 'SUCCESS'?"), ("zzz", "")],
)
def test_did_you_mean(given, expected):
    """The hint finds a misspelling and says nothing where nothing is close."""
    assert did_you_mean(given, ["SUCCESS", "FAILURE"]) == expected


@pytest.mark.parametrize("processors", [1, 2, 3, 4, 8, 64])
@pytest.mark.parametrize("each", POOLS, ids=str)
def test_a_sweep_has_enough_points_for_a_fit_and_goes_beyond_the_processors(each, processors):
    """A sweep begins with one slot, which is what the others are compared with; solo has no other."""
    slots = sweep(each, processors)
    assert list(slots) == sorted(set(slots))
    assert slots[0] == 1
    if each.takes_concurrency:
        assert len(slots) >= 4
        assert slots[-1] > processors
    else:
        assert slots == (1,)


def test_a_sweep_of_prefork_stays_within_what_a_number_for_all_pools_may_ask_for():
    """Four children for each processor are the most."""
    assert sweep(pool("prefork"), 2) == (1, 2, 3, 4, 6, 8)
    assert sweep(pool("prefork"), 64)[-1] == 128
