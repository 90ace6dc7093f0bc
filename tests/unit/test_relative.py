"""When a relative budget is broken, and when it could not be compared."""

import json

import pytest

from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import BudgetSpec, Ratio
from pytest_celerypool.pools import POOLS
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.relative import facts, judge

PREFORK, SOLO, THREADS, GEVENT, EVENTLET = POOLS
NAP = "proj.nap"


def entries(*runtimes, task=NAP):
    spans = [
        Span(f"{task}{number}", task, 0, "t", "x", published=0.0, started=1.0, ended=1.0 + seconds, state="SUCCESS")
        for number, seconds in enumerate(runtimes)
    ]
    return [TaskEntry(span.id, span.task, publications=[(0, 0.0)], spans=[span]) for span in spans]


def spec(measure="runtime", pools=None, percentile=100.0, **bounds):
    return BudgetSpec({}, percentile, "*", pools, {measure: Ratio(SOLO, **bounds)})


def side(pool, *runtimes, growth=None, **more):
    return facts(spec(**more), entries(*runtimes), pool, growth)


def judged(solo, gevent, **more):
    return judge({"solo": side("solo", *solo, **more), "gevent": side("gevent", *gevent, **more)})


def test_a_broken_one_shows_both_sides():
    ((column, text),), notes = judged([0.1, 0.1], [0.3, 0.2], at_most=1.2)
    assert (column, notes) == ("gevent", [])
    assert text.splitlines() == [
        "proj.nap (2 times) under gevent: runtime is 3.00 times that under solo, above the limit of 1.2 times",
        "  solo:   100 ms (highest of 2 executions)",
        "  gevent: 300 ms (highest of 2 executions)",
    ]


def test_too_little_shows_both_sides():
    ((_, text),), _ = judged([0.1], [0.1], measure="throughput", at_least=4)
    assert text.splitlines() == [
        "proj.nap under gevent: throughput is 1.00 times that under solo, below the limit of 4 times",
        "  solo:   0.909 tasks/s (1 execution)",
        "  gevent: 0.909 tasks/s (1 execution)",
    ]


@pytest.mark.parametrize(
    ("measure", "bounds"),
    [("runtime", {"at_most": 2}), ("runtime", {"at_least": 0.5, "at_most": 1}), ("makespan", {"at_most": 1.1})],
)
def test_within_the_bounds_nothing_is_said(measure, bounds):
    assert judged([0.1], [0.1], measure=measure, **bounds) == ([], [])


def test_a_percentile_is_compared():
    """One slow execution of twenty breaks no limit of the median."""
    solo, gevent = [0.1] * 20, [0.1] * 19 + [9.0]
    assert judged(solo, gevent, percentile=50, at_most=1.2) == ([], [])
    ((_, text),), _ = judged(solo, [0.3] * 20, percentile=50, at_most=1.2)
    assert "  solo:   100 ms (percentile 50 of 20 executions)" in text.splitlines()


def test_what_may_be_chance_is_noted_and_not_broken():
    broken, notes = judged([0.1], [0.13], at_most=1.2)
    assert broken == []
    assert notes == [
        "proj.nap under gevent: runtime is 1.30 times that under solo, above the limit of 1.2 times, but within noise"
    ]


def test_a_pool_that_did_not_run_is_not_compared():
    broken, notes = judge({"gevent": side("gevent", 0.1, at_most=1.2), "prefork": side("prefork", 0.1, at_most=1.2)})
    assert broken == []
    assert notes == [
        "runtime under gevent, prefork not compared: the test has no figures under solo, where it did not run, or "
        "failed"
    ]


def test_the_pool_that_is_compared_with_alone_is_not_compared():
    assert judge({"solo": side("solo", 0.1, at_most=1.2)}) == (
        [],
        ["relative budget not compared, only solo took part"],
    )


def test_a_figure_that_is_not_known_is_not_compared():
    _, notes = judge(
        {"solo": side("solo", 0.1, measure="cpu", at_most=1), "gevent": side("gevent", 0.1, measure="cpu", at_most=1)}
    )
    assert len(notes) == 1
    assert "not compared" in notes[0]


def test_pools_say_which_are_judged():
    """The pool that is compared with gives its facts nevertheless, a third none."""
    more = {"pools": (GEVENT,), "at_most": 1.2}
    assert side("threads", 9.0, **more) is None
    (broken,), _ = judge({"solo": side("solo", 0.1, **more), "gevent": side("gevent", 0.5, **more)})
    assert broken.column == "gevent"


def test_a_pool_that_is_not_judged_breaks_nothing():
    """Not even where it is compared with by one limit, and would break another."""
    both = BudgetSpec({}, 100.0, "*", (GEVENT,), {"runtime": Ratio(SOLO, 2), "makespan": Ratio(THREADS, 2)})
    sides = {
        pool: facts(both, entries(seconds), pool, None)
        for pool, seconds in (("solo", 9.0), ("threads", 0.1), ("gevent", 0.1))
    }
    assert judge(sides) == ([], [])


def test_a_figure_of_many_executions_is_surer():
    """Of one, a throughput that is a quarter too low is chance, of thirty it is not."""
    broken = [
        judged([0.1] * count, [0.1] * int(count * 0.75), measure="throughput", at_least=0.95)[0] for count in (1, 40)
    ]
    assert [bool(each) for each in broken] == [False, True]


def test_columns_with_as_many_slots_are_compared():
    sides = {
        "solo-1": side("solo", 0.1, at_most=1.2),
        "solo-4": side("solo", 1.0, at_most=1.2),
        "gevent-1": side("gevent", 0.1, at_most=1.2),
        "gevent-4": side("gevent", 1.0, at_most=1.2),
    }
    assert judge(sides) == ([], [])


@pytest.mark.parametrize(("solo", "gevent", "broken"), [(10, 30, True), (10, 11, False), (0, 30, True), (1, 3, False)])
def test_memory_is_compared(solo, gevent, broken):
    """A few MiB are chance."""
    sides = {
        name: side(name, 0.1, measure="memory", growth=size * 2**20, at_most=1.2)
        for name, size in (("solo", solo), ("gevent", gevent))
    }
    assert bool(judge(sides)[0]) == broken


def test_memory_that_shrank_is_not_compared():
    sides = {
        name: side(name, 0.1, measure="memory", growth=growth, at_most=1.2)
        for name, growth in (("solo", -5), ("gevent", 2**30))
    }
    assert judge(sides) == ([], ["memory under gevent not compared: what shrank has no ratio"])


def test_overlap_is_counted_exactly():
    assert judged([0.1], [0.1] * 3, measure="overlap", at_least=3) == ([], [])
    (broken,), _ = judged([0.1], [0.1] * 3, measure="overlap", at_least=4)
    assert "overlap is 3.00 times that under solo, below the limit of 4 times" in broken.text


def test_facts_survive_json():
    found = side("gevent", 0.1, at_most=1.2)
    assert json.loads(json.dumps(found)) == found


def waits(pool, seconds, waited):
    """A side whose one execution may have waited for others for some of its time."""
    one = entries(seconds)
    one[0].spans[0].waited, one[0].spans[0].slot_waited = 0.0, waited
    return facts(spec(at_most=1.5), one, pool, None)


@pytest.mark.parametrize(
    ("solo", "gevent", "broken"),
    [
        ((1.0, 0.0), (3.0, 0.0), True),
        ((3.0, 2.0), (3.0, 0.0), False),
        ((1.0, 0.0), (3.0, 2.0), False),
        ((1.0, 0.1), (3.0, 0.1), True),
    ],
)
def test_what_others_may_have_taken_breaks_nothing(solo, gevent, broken):
    """It may make the other pool look quicker than it is, or this one slower: then it is noted."""
    found, notes = judge({"solo": waits("solo", *solo), "gevent": waits("gevent", *gevent)})
    assert (bool(found), any("but within noise" in note for note in notes)) == (broken, not broken)
