"""A baseline and its ratchet, over runs with real workers."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

APP = """
import os, time
from celery import Celery

app = Celery("proj")

@app.task
def nap(seconds):
    time.sleep(seconds * float(os.environ.get("SLOWER", "1")))

@app.task
def fails():
    raise ValueError
"""

SUITE = """
import pytest
from proj import fails, nap

def test_one(celery_pool_worker):
    celery_pool_worker.run(nap, 0.05)

def test_three(celery_pool_worker):
    celery_pool_worker.map(nap, [0.05] * 3)

@pytest.mark.celery_expect
def test_bad():
    fails.delay()
"""

OPTIONS = ("--celery-app=proj:app", "--celery-baseline=b.json")
RATCHET = "--celery-budget-ratchet=p95:+20%"
SLOWER = {"SLOWER": "3"}


@pytest.fixture
def suite(project):
    return project.write(proj=APP, test_it=SUITE)


def stored(project, name="b.json"):
    """The tasks of the only machine of a baseline."""
    (tasks,) = json.loads((project.path / name).read_text())["machines"].values()
    return tasks


def runtimes(project):
    """The runtimes of the executions of the task that naps, by pool and test."""
    return {
        (pool, test.partition("::")[2]): figures["runtime"]
        for pool, tests in stored(project)["proj.nap"].items()
        for test, figures in tests.items()
    }


@pytest.fixture(scope="module")
def baseline(shared_project):
    """The baseline of a run of the suite, as it was written."""
    run = shared_project.write(proj=APP, test_it=SUITE).run(*OPTIONS, "--celery-pools=solo,threads", "-k", "not bad")
    assert run.status == 0, run.output
    return (shared_project.path / "b.json").read_text()


@pytest.fixture
def recorded(suite, baseline):
    """A suite with a baseline."""
    (suite.path / "b.json").write_text(baseline)
    return suite


def test_a_run_stores_what_the_tasks_of_passing_tests_took(suite):
    run = suite.run(*OPTIONS, "--celery-pools=solo,threads")
    assert run.status == 1
    assert set(stored(suite)) == {"proj.nap"}
    assert {place: len(values) for place, values in runtimes(suite).items()} == {
        (pool, test): count for pool in ("solo", "threads") for test, count in (("test_one", 1), ("test_three", 3))
    }
    # Less the millisecond by which what was waited for a processor is wrong.
    assert all(value >= 0.049 for values in runtimes(suite).values() for value in values)
    assert "celery baseline: proj.nap under solo, proj.nap under threads written to b.json" in run.output
    assert not suite.remains()
    assert not list(suite.path.glob(".b.json*"))


@pytest.mark.gate("one process")
@pytest.mark.parametrize("distribution", [(), ("-n2",)], ids=["one process", "xdist"])
def test_a_regression_fails_every_test_that_ran_the_task(recorded, distribution):
    """With both sides in the report and in JUnit, so that --lf runs them again."""
    before = (recorded.path / "b.json").read_text()
    pools = "--celery-pools=solo,threads"
    run = recorded.run(*OPTIONS, pools, RATCHET, "-k", "not bad", "--junitxml=j.xml", *distribution, environment=SLOWER)
    assert run.status == 1, run.output
    assert set(run.outcomes().values()) == {"failed"}
    text = run.failure("test_one[solo]")
    for line in ("proj.nap under solo takes more than its baseline in b.json: runtime p95", "  p95 of runtime"):
        assert line in text.splitlines()
    assert "(4 executions)" in text
    assert "(baseline +20%)" in text
    assert "p95 of 4 executions is their maximum; it takes 20 for more" in text
    failures = [case.get("name") for case in ElementTree.parse(recorded.path / "j.xml").iter("testcase") if len(case)]
    assert set(run.outcomes()) <= set(failures)
    matrix = run.output.rpartition("= celery pools =")[2]
    assert "total FAIL" in matrix
    assert (recorded.path / "b.json").read_text() == before


@pytest.mark.slow
def test_a_regression_is_run_again_by_last_failed(recorded):
    options = (*OPTIONS, "--celery-pools=solo", RATCHET, "-k", "not bad")
    recorded.run(*options, environment=SLOWER)
    again = recorded.run(*options, "--lf")
    assert again.status == 0, again.output
    assert sorted(again.outcomes()) == ["test_one[solo]", "test_three[solo]"]


def test_the_same_again_is_no_regression(recorded):
    run = recorded.run(*OPTIONS, "--celery-pools=solo,threads", "--celery-budget-ratchet=p95:+100%", "-k", "not bad")
    assert run.status == 0, run.output
    assert "celery ratchet: 2 figures compared, none worse" in run.output
    assert "p95 takes 20 executions and is the maximum of fewer: proj.nap under solo (4)" in " ".join(
        run.output.split()
    )


@pytest.mark.slow
def test_with_the_ratchet_a_baseline_only_tightens(suite):
    """What is better replaces, what is within the tolerance does not, what is new is recorded."""
    options = (*OPTIONS, "--celery-pools=solo", "--celery-budget-ratchet=p95:+1000%")
    suite.run(*OPTIONS, "--celery-pools=solo", "-k", "one", environment=SLOWER)
    assert runtimes(suite)["solo", "test_one"][0] >= 0.15
    suite.run(*options, "-k", "not bad")
    tight = runtimes(suite)
    assert tight["solo", "test_one"][0] < 0.15
    assert len(tight["solo", "test_three"]) == 3
    run = suite.run(*options, "-k", "not bad", environment=SLOWER)
    assert run.status == 0, run.output
    assert runtimes(suite) == tight
    assert "celery baseline: b.json unchanged" in run.output


@pytest.mark.slow
def test_without_the_ratchet_a_run_replaces_what_it_ran(recorded):
    before = runtimes(recorded)
    recorded.run(*OPTIONS, "--celery-pools=solo", "-k", "one", environment=SLOWER)
    after = runtimes(recorded)
    assert after["solo", "test_one"][0] >= 0.15
    assert {place for place in before if before[place] != after[place]} == {("solo", "test_one")}


@pytest.mark.slow
def test_another_machine_is_no_baseline_of_this_one(recorded):
    path = recorded.path / "b.json"
    document = json.loads(path.read_text())
    document["machines"] = {"Another": stored(recorded)}
    path.write_text(json.dumps(document))
    run = recorded.run(*OPTIONS, RATCHET, "--celery-pools=solo", "-k", "one", environment=SLOWER)
    assert run.status == 0, run.output
    assert "celery ratchet: b.json has no baseline of this machine (" in run.output
    assert sorted(json.loads(path.read_text())["machines"])[0] == "Another"
    assert len(json.loads(path.read_text())["machines"]) == 2


@pytest.mark.gate("collected only")
@pytest.mark.parametrize(
    ("options", "status"),
    [(("-k", "bad"), 1), (("--collect-only",), 0), (("-x", "-k", "one or bad", "--celery-pools=solo,threads"), 1)],
    ids=["no test passed", "collected only", "cut short"],
)
def test_what_writes_nothing(suite, options, status):
    run = suite.run(*OPTIONS, "--celery-pools=solo", *options)
    assert run.status == status, run.output
    assert not (suite.path / "b.json").exists()
    assert ("celery baseline: b.json not written: " in run.output) == (status == 1)


@pytest.mark.parametrize("distribution", [(), ("-n1",)], ids=["one process", "xdist"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--celery-baseline=none/b.json",), "there is no folder "),
        (("--celery-baseline=pytest.ini",), "pytest.ini is not JSON: "),
        ((RATCHET,), "--celery-budget-ratchet: there is nothing to compare with. "),
    ],
)
def test_what_cannot_be_used_is_said_before_a_test_runs(suite, options, message, distribution):
    run = suite.run("--celery-app=proj:app", *options, *distribution)
    assert run.status == 4, run.output
    assert message in run.output
    assert not run.reports


def test_the_header_names_the_file_and_the_ratchet(suite):
    run = suite.run(*OPTIONS, RATCHET, "--collect-only")
    assert (
        "celery budgets: baseline b.json (--celery-baseline), ratchet runtime:p95:+20% (--celery-budget-ratchet)"
        in run.output
    )
