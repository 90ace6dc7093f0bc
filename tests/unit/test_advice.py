"""Which pool is recommended for which figures, and that nothing is without them."""

from types import SimpleNamespace

import pytest

from pytest_celerypool.report.advice import Counsel
from pytest_celerypool.verdict import advice
from pytest_celerypool.verdict.advice import ENOUGH, Account, Case, Objection, advise, command, queues, task_routes

MIB = 2**20
SLOTS = {"prefork": 2, "solo": 1, "threads": 8, "gevent": 100, "eventlet": 100}
#: Bytes a worker.
MEMORY = {"prefork": 80 * MIB, "solo": 40 * MIB, "threads": 40 * MIB, "gevent": 45 * MIB, "eventlet": 47 * MIB}


@pytest.fixture(autouse=True)
def two_processors(monkeypatch):
    monkeypatch.setattr(advice, "_PROCESSORS", 2)


def figures(pool, throughput, count=ENOUGH, *, cpu=0.0, runtime=0.1, kept=None, waited=0.0, slots=None, column=None):
    """Evidence of so many executions at once; `throughput` None: one after the other."""
    green = pool in ("gevent", "eventlet")
    makespan = count * runtime if throughput is None else count / throughput
    return {
        "task": "proj.work",
        "pool": pool,
        "column": column or pool,
        "concurrency": slots or SLOTS[pool],
        "runtime": [runtime] * count,
        "cpu": [cpu] * count,
        "hold": [kept or 0.001] * count if green else [],
        "kept": [kept or 0.001] * count if green else [],
        "queued": [0.0 if throughput is None else makespan / 2] * count,
        "waited": [waited] * count,
        "makespan": makespan,
        "count": count,
        "memory": MEMORY[pool],
        "states": {"SUCCESS": count},
    }


def case(throughputs, objections=(), **about):
    """A case of one test that ran under several pools."""
    found = [Account("test", figures(pool, value, **about)) for pool, value in throughputs.items()]
    return Case("proj.work", list(throughputs), found, objections)


COMPUTING = {"prefork": 20, "solo": 10, "threads": 10.5, "gevent": 10, "eventlet": 9}
WAITING = {"prefork": 20, "solo": 10, "threads": 70, "gevent": 160, "eventlet": 150}


def test_a_processor_bound_task_goes_to_prefork():
    found = advise(case(COMPUTING, cpu=0.095))
    assert (found.kind, found.pool, found.slots) == (advice.COMPUTES, "prefork", 2)
    assert found.reason == "2 times the throughput of solo; 1.9 times that of threads"


def test_a_waiting_task_goes_to_greenlets():
    found = advise(case(WAITING))
    assert (found.kind, found.pool, found.slots) == (advice.WAITS, "gevent", 100)
    assert "eventlet not better by more than noise, and gevent comes first in Celery's order" in found.reason
    assert "more than 20 at once were not tried" in found.reason


def test_a_reason_names_the_throughput_where_solo_did_not_run():
    found = advise(case({pool: value for pool, value in WAITING.items() if pool != "solo"}))
    assert "times the throughput of " in found.reason
    assert found.reason.count("the throughput") == 1


def test_a_pool_with_a_failing_finding_is_never_recommended():
    """However fast it is."""
    objections = [Objection(pool, "hub-blocked", bars=True) for pool in ("gevent", "eventlet")]
    assert advise(case(WAITING, objections)).pool == "threads"


def test_a_warning_rules_nothing_out():
    assert advise(case(WAITING, [Objection("gevent", "hub-busy (warning)", bars=False)])).pool == "gevent"


def test_the_only_pool_that_is_left_needs_no_comparison():
    """As for a soft time limit, of which one execution is enough."""
    objections = [
        Objection(pool, "ignores its soft time limit of 5 s", bars=True) for pool in SLOTS if pool != "prefork"
    ]
    found = advise(case(dict.fromkeys(SLOTS), objections, count=1))
    assert (found.pool, found.slots) == ("prefork", 2)
    assert found.reason.endswith("solo, threads, gevent, eventlet: ignores its soft time limit of 5 s")


def test_no_pool_is_recommended_where_something_speaks_against_each():
    found = advise(case(WAITING, [Objection(pool, "fails test_x", bars=True) for pool in SLOTS]))
    assert found.pool is None
    assert found.reason == "no pool of this run can be recommended"


def test_tasks_that_were_sent_one_after_the_other_say_nothing_of_slots():
    """However many they were."""
    found = advise(case(dict.fromkeys(SLOTS), count=50))
    assert found.pool is None
    assert found.reason == (
        "not enough evidence: 20 more runs of proj.work at once under prefork, solo, threads, gevent, eventlet: by a "
        "test that sends 20 and little else, or --celery-stress=20"
    )


def test_what_is_missing_is_counted():
    found = advise(case(WAITING, count=12))
    assert found.pool is None
    assert "8 more runs of proj.work at once under prefork" in found.reason


def test_one_pool_alone_is_compared_with_nothing():
    found = advise(case({"prefork": 20}))
    assert found.pool is None
    assert "20 more runs of proj.work at once under another pool than prefork; --celery-pools=all" in found.reason


def test_the_stress_pass_is_a_race_of_its_own():
    """A test that sends one task is no comparison, its repetitions at once are."""
    alone = [Account("test", figures(pool, None, 1)) for pool in WAITING]
    stressed = [Account("test stressed", figures(pool, value)) for pool, value in WAITING.items()]
    assert advise(Case("proj.work", list(WAITING), [*alone, *stressed])).pool == "gevent"


def test_throughputs_of_different_tests_are_not_compared():
    """Their arguments may differ, and with them what the task does."""
    found = [Account(f"test_{pool}", figures(pool, value)) for pool, value in WAITING.items()]
    assert advise(Case("proj.work", list(WAITING), found)).pool is None


def test_equal_pools_of_a_waiting_task_are_decided_by_memory():
    found = advise(case({"prefork": 20, "threads": 21}))
    assert found.pool == "threads"
    assert "threads takes less memory a slot" in found.reason


def test_equal_pools_of_a_processor_bound_task_are_decided_by_celerys_default():
    """As on a machine with one processor: what computes stops whatever shares its process."""
    found = advise(case({"prefork": 10, "solo": 11, "gevent": 11}, cpu=0.095))
    assert found.pool == "prefork"
    assert "no other pool is better by more than noise, and prefork is Celery's default" in found.reason


def test_a_processor_bound_task_shares_its_process_with_no_other_for_the_sake_of_memory():
    """Greenlets are light; one that computes keeps a hundred others waiting."""
    found = advise(case({"solo": 10, "gevent": 10}, cpu=0.095))
    assert found.pool == "solo"
    assert "solo runs nothing else in its process meanwhile" in found.reason


def test_others_that_use_the_processors_decide_nothing():
    """Children that waited for processors half of their time might have been twice as fast, and the reason says it."""
    throughputs = {"prefork": 8, "solo": 11}
    assert advise(case(throughputs, cpu=0.095)).pool == "solo"
    found = advise(case(throughputs, cpu=0.095, waited=0.1))
    assert found.pool == "prefork"
    assert found.reason.endswith("measured while others used the processors")


def test_slots_that_wait_for_each_other_have_not_missed_more_than_the_processors():
    """Eight children on two processors are no eight times as fast."""
    eight = Account("test", figures("prefork", 20.0, cpu=0.1, waited=0.3, slots=8))
    race = advice.races(Case("proj.work", ["prefork"], [eight]))[0]
    assert race.possible("prefork") == pytest.approx(20)


def test_a_sweep_gives_the_fewest_slots_that_are_as_good_as_any():
    points = {1: 10, 2: 19.5, 4: 20, 8: 19}
    found = [
        Account("test", figures("prefork", value, 10 * slots, cpu=0.09, slots=slots), swept=True)
        for slots, value in points.items()
    ]
    found.append(Account("test", figures("solo", 10, 10, cpu=0.09), swept=True))
    result = advise(Case("proj.work", ["prefork", "solo"], found))
    assert (result.pool, result.slots) == ("prefork", 2)


def test_processor_time_is_that_of_an_execution_alone():
    """Under threads the runtime of a task that computes has in it that others do."""
    found = [Account("test", figures("threads", 10, cpu=0.1, runtime=0.8))]
    found.append(Account("test", figures("solo", 10, cpu=0.1, runtime=0.11)))
    assert advice.processor_share(Case("proj.work", ["solo", "threads"], found)) == pytest.approx(0.91, abs=0.01)


def test_figures_of_each_pool():
    rows = {row.pool: row for row in advise(case(WAITING, kept=0.025)).rows}
    assert rows["gevent"].cooperative == pytest.approx(0.75)
    assert rows["gevent"].hold == 0.025
    assert rows["gevent"].speedup == pytest.approx(16)
    assert rows["threads"].memory == 5 * MIB
    assert rows["threads"].cooperative is None


def test_a_hub_that_others_keep_makes_no_task_cooperative():
    """The runtime of what waits in C is long under gevent, since others keep the hub; under solo it is what it is."""
    found = [Account("test", figures("gevent", 10, runtime=0.5, kept=0.1)), Account("test", figures("solo", 10))]
    rows = {row.pool: row for row in advise(Case("proj.work", ["solo", "gevent"], found)).rows}
    assert rows["gevent"].cooperative == pytest.approx(0)


# -- what follows


def advised(*kinds):
    """Advices for tasks that compute, wait, or are known to nothing."""
    throughputs = {"computes": (COMPUTING, 0.095), "waits": (WAITING, 0.0), "unknown": ({"solo": None}, 0.0)}
    found = []
    for number, kind in enumerate(kinds):
        values, cpu = throughputs[kind]
        of_kind = case(values, cpu=cpu)
        found.append(advise(Case(f"proj.{kind}{number}", of_kind.pools, of_kind.accounts)))
    return found


def test_computing_and_waiting_tasks_get_a_queue_and_a_worker_each():
    found = queues(advised("computes", "waits", "unknown"))
    assert task_routes(found) == {"proj.computes0": {"queue": "computing"}, "proj.waits1": {"queue": "waiting"}}
    assert [command(queue, "proj:app") for queue in found] == [
        "celery -A proj:app worker -P prefork -c 2 -Q computing -n computing@%h",
        "celery -A proj:app worker -P gevent -c 100 -Q waiting -n waiting@%h",
    ]


def test_tasks_that_are_all_alike_need_no_routes():
    found = queues(advised("waits", "waits"))
    assert task_routes(found) == {}
    assert [command(queue, "proj:app") for queue in found] == ["celery -A proj:app worker -P gevent -c 100"]


def test_nothing_follows_from_nothing():
    assert queues(advised("unknown")) == []


# -- gathering


def report(nodeid, pool, *, passed=True, limits=(None, None), evidence=(), **data):
    told = {"app": "proj:app", "pool": pool, "limits": {"proj.work": limits}, "stressed": []}
    whole = {"test": nodeid.partition("[")[0], "evidence": evidence, "advice": told, **data}
    return SimpleNamespace(nodeid=nodeid, passed=passed), whole


def counsel(throughputs=WAITING, **about):
    made = Counsel(list(SLOTS))
    for pool, value in throughputs.items():
        made.add(*report(f"test_it.py::test[{pool}]", pool, evidence=[figures(pool, value)], **about))
    return made


def test_the_section_names_everything():
    """As the documentation shows it."""
    lines = counsel().lines([], 100)
    assert lines[0] == "proj.work: waiting, 0% processor time, runtime 100 ms"
    assert lines[1].split() == ["pool", "slots", "tasks/s", "over", "solo", "cooperative", "hold", "memory/slot"]
    assert lines[5].split() == ["gevent", "100", "160", "16.00", "99%", "1.0", "ms", "460.8", "KiB"]
    assert lines[7].startswith("  => gevent with 100 slots: 16 times the throughput of solo; ")
    assert lines[-1] == "celery -A proj:app worker -P gevent -c 100"


@pytest.mark.parametrize(
    ("limits", "pool", "text"),
    [
        ((None, 5.0), "prefork", "solo, threads, gevent, eventlet: ignores its soft time limit of 5 s"),
        ((7.0, None), "gevent", "solo, threads, eventlet: ignores its hard time limit of 7 s"),
    ],
)
def test_a_pool_that_ignores_a_time_limit_of_the_task_is_ruled_out(limits, pool, text):
    made = counsel(limits=limits)
    assert made.advices([])[0].pool == pool
    assert f"  {text}" in made.lines([], 200)


def test_what_ran_among_others_is_not_compared():
    """The throughput of a quick task that is sent with slow ones is theirs."""
    made = Counsel(list(SLOTS))
    for pool, value in WAITING.items():
        slow = {**figures(pool, value, runtime=1.0), "task": "proj.slow"}
        made.add(*report(f"test_it.py::test[{pool}]", pool, evidence=[figures(pool, value, runtime=0.001), slow]))
    (advised,) = made.advices([])
    assert advised.pool is None
    assert advised.reason.startswith("not enough evidence: 20 more runs of proj.work at once")


def test_findings_and_failed_tests_rule_their_pool_out():
    made = counsel()
    made.add(*report("test_it.py::test_other[eventlet]", "eventlet", passed=False))
    finding = {"task": "proj.work", "pool": "gevent", "kind": "hub-blocked", "policy": "fail"}
    lines = made.lines([finding], 200)
    assert "  gevent: hub-blocked" in lines
    assert "  eventlet: fails test_it.py::test_other[eventlet]" in lines
    assert made.advices([finding])[0].pool == "threads"


def test_a_finding_that_warns_is_shown_and_rules_nothing_out():
    made = counsel()
    finding = {"task": "proj.work", "pool": "gevent", "kind": "hub-busy", "policy": "warn"}
    assert "  gevent: hub-busy (warning)" in made.lines([finding], 200)
    assert made.advices([finding])[0].pool == "gevent"


def test_a_test_that_failed_for_a_finding_of_another_task_speaks_against_nothing():
    made = counsel()
    made.add(*report("test_it.py::test_other[gevent]", "gevent", passed=False, only_findings=True))
    finding = {"task": "proj.other", "pool": "gevent", "kind": "hub-blocked", "policy": "fail"}
    assert made.advices([finding])[0].pool == "gevent"


def test_a_rerun_takes_the_place_of_what_failed():
    made = counsel()
    made.add(*report("test_it.py::test_other[gevent]", "gevent", passed=False))
    made.add(*report("test_it.py::test_other[gevent]", "gevent"))
    assert made.advices([])[0].pool == "gevent"
