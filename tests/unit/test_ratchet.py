"""What becomes of a baseline, and what is a regression against it."""

import pytest

from pytest_celerypool.settings import Ratchet
from pytest_celerypool.verdict import ratchet

RULES = (Ratchet("runtime", 95, 0.2),)
ADD = "proj.add"


def tasks(*runtime, test="t", task=ADD, pool="solo", **more):
    return {task: {pool: {test: {"count": len(runtime), "concurrency": 1, "runtime": sorted(runtime)} | more}}}


def evidence(**fields):
    return {
        "task": ADD,
        "pool": "gevent",
        "column": "gevent-4",
        "concurrency": 4,
        "runtime": [0.2, 0.1234567],
        "cpu": [0.1],
        "hold": [],
        "kept": [],
        "queued": [0.3],
        "runtime_high": [0.2, 0.1234567],
        "queued_high": [0.3],
        "makespan": 1.0,
        "count": 2,
        "memory": None,
        "states": {"SUCCESS": 2},
    } | fields


def test_a_run_is_told_by_task_pool_and_test():
    """Figures are in order and in microseconds, a measure without any is left out."""
    assert ratchet.of_run([("t", evidence())]) == {
        ADD: {
            "gevent-4": {"t": {"count": 2, "concurrency": 4, "runtime": [0.123457, 0.2], "cpu": [0.1], "queued": [0.3]}}
        }
    }


def test_what_others_may_have_cost_is_no_regression():
    """A baseline of a busy machine has the most that a task may have taken, a run is compared by the least."""
    busy = ratchet.of_run([("t", evidence(runtime=[0.02] * 20, runtime_high=[0.05] * 20))])
    idle = ratchet.of_run([("t", evidence(runtime=[0.05] * 20, runtime_high=[0.05] * 20))])
    slower = ratchet.of_run([("t", evidence(runtime=[0.2] * 20, runtime_high=[0.3] * 20))])
    assert ratchet.replaced({}, busy) == ratchet.replaced({}, idle)
    assert not ratchet.judge(ratchet.replaced({}, busy), idle, RULES).regressions()
    assert not ratchet.judge(ratchet.replaced({}, idle), busy, RULES).regressions()
    assert ratchet.judge(ratchet.replaced({}, busy), slower, RULES).regressions()


def test_a_busy_run_makes_a_baseline_no_tighter():
    """Or what is left out of it would be a regression of every idle run that follows."""
    idle = ratchet.replaced({}, ratchet.of_run([("t", evidence(runtime=[0.05] * 20, runtime_high=[0.05] * 20))]))
    busy = ratchet.of_run([("t", evidence(runtime=[0.02] * 20, runtime_high=[0.06] * 20))])
    assert ratchet.tightened(idle, busy, RULES) == idle


def test_a_test_that_ran_twice_counts_twice():
    found = ratchet.of_run([("t", evidence()), ("t", evidence())])
    assert found[ADD]["gevent-4"]["t"]["count"] == 4


def test_a_regression_shows_both_sides():
    (regression,) = ratchet.judge(tasks(0.1, 0.1), tasks(0.2, 0.2, 0.3), RULES).regressions()
    assert ratchet.render(regression, "b.json").splitlines() == [
        "proj.add under solo takes more than its baseline in b.json: runtime p95",
        "",
        "  p95 of runtime",
        "    baseline  100 ms (2 executions)",
        "    this run  300 ms (3 executions)",
        "    limit     120 ms (baseline +20%)",
        "    ratio     3.00",
        "    p95 of 2 executions is their maximum; it takes 20 for more",
        "",
        "compared over t",
        "to accept it, run these tests once with --celery-baseline and without the ratchet",
    ]


def test_slots_are_shown_where_they_differ():
    (regression,) = ratchet.judge(tasks(0.1, concurrency=4), tasks(0.3, concurrency=2), RULES).regressions()
    assert "(1 execution, 4 slots)" in ratchet.render(regression, "b")


def test_waiting_is_not_compared_between_numbers_of_slots():
    rules = (Ratchet("queued", 95, 0.2),)
    outcome = ratchet.judge(tasks(0.1, concurrency=4, queued=[1]), tasks(0.1, concurrency=2, queued=[9]), rules)
    assert outcome.notes == [
        "queued of proj.add under solo not compared: 4 slots in the baseline, 2 in this run",
    ]
    assert not outcome.compared


def test_only_tests_in_both_are_compared():
    """A run of a part of the tests is compared with that part."""
    baseline = {ADD: {"solo": {**tasks(0.1)[ADD]["solo"], **tasks(9.0, test="slow")[ADD]["solo"]}}}
    run = {ADD: {"solo": {**tasks(0.1)[ADD]["solo"], **tasks(99.0, test="new")[ADD]["solo"]}}}
    (compared,) = ratchet.judge(baseline, run, RULES).compared
    assert (compared.tests, compared.comparison.before, compared.comparison.after) == (("t",), 0.1, 0.1)


@pytest.mark.parametrize("other", [tasks(1, test="u"), tasks(1, pool="gevent"), tasks(1, task="b"), {}])
def test_what_the_baseline_has_not_is_no_regression(other):
    outcome = ratchet.judge(other, tasks(9.0), RULES)
    assert (outcome.compared, outcome.unknown) == ([], [(ADD, "solo")])


def test_without_a_ratchet_a_run_replaces_what_it_ran():
    baseline = {**tasks(0.1), **tasks(0.5, task="other")}
    assert ratchet.replaced(baseline, tasks(0.9)) == {**tasks(0.9), **tasks(0.5, task="other")}


@pytest.mark.parametrize(
    ("now", "kept"),
    [(0.2, 0.2), (0.29, 0.3), (0.31, 0.3), (0.9, 0.3)],
    ids=["better", "better by little", "within", "regression"],
)
def test_a_ratchet_only_tightens(now, kept):
    assert ratchet.tightened(tasks(0.3), tasks(now), RULES) == tasks(kept)


def test_what_is_within_the_tolerance_changes_nothing_at_all():
    assert ratchet.tightened(tasks(0.3), tasks(0.31, 0.31, concurrency=9), RULES) == tasks(0.3)


def test_a_ratchet_records_what_is_new():
    run = {**tasks(0.3), **tasks(0.1, task="new")}
    assert ratchet.tightened(tasks(0.3), run, RULES) == run


def test_a_measure_without_a_rule_stays():
    after = ratchet.tightened(tasks(0.3, cpu=[0.1]), tasks(0.1, cpu=[0.2]), RULES)
    assert after == tasks(0.1, cpu=[0.1])


def test_nothing_of_a_task_that_regressed_is_tightened():
    rules = (*RULES, Ratchet("cpu", 95, 0.2))
    assert ratchet.tightened(tasks(0.1, cpu=[0.1]), tasks(0.5, cpu=[0.01]), rules) == tasks(0.1, cpu=[0.1])


def test_better_by_one_rule_and_worse_by_another_replaces_nothing():
    rules = (Ratchet("runtime", 50, 2), Ratchet("runtime", 100, 2))
    assert ratchet.tightened(tasks(0.1, 0.1, 0.1), tasks(0.05, 0.05, 0.15), rules) == tasks(0.1, 0.1, 0.1)
