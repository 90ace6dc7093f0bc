"""What a run leaves for its readers: files, the next run, people."""

import xml.etree.ElementTree as ElementTree

import pytest

APP = """
from celery import Celery

app = Celery("proj")

@app.task
def add(x, y):
    return x + y
"""

SUITE = """
import pytest
from proj import add

@pytest.mark.celery_expect(agree=True)
def test_disagrees(celery_pool):
    add.delay(1, len(str(celery_pool)))

@pytest.mark.celery_expect(agree=("state",))
def test_agrees(celery_pool):
    add.delay(1, len(str(celery_pool)))

@pytest.mark.celery_expect(agree=True)
@pytest.mark.celery_allow("pools-disagree", reason="the length of a name is no bug")
def test_allowed(celery_pool):
    add.delay(1, len(str(celery_pool)))

@pytest.mark.celery_expect(agree=True)
@pytest.mark.celery_pools("solo")
def test_alone(celery_pool):
    add.delay(1, 1)

@pytest.mark.celery_expect(agree=True)
def test_fails_under_one(celery_pool):
    add.delay(1, 1)
    assert str(celery_pool) != "solo"

@pytest.mark.xfail(strict=True)
@pytest.mark.celery_expect
def test_known_to_fail():
    add.delay(1, "x")
"""


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(proj=APP, test_it=SUITE)
    return shared_project.run("--celery-app=proj:app", "--celery-pools=solo,threads", "--junitxml=junit.xml")


def test_a_disagreement_fails_every_pool_that_took_part_and_shows_the_sides(run):
    for pool in ("solo", "threads"):
        text = run.failure(f"test_disagrees[{pool}]")
        assert "proj.add ended differently from pool to pool" in text
        assert "solo:    SUCCESS, retries=0, result=5" in text
        assert "threads: SUCCESS, retries=0, result=8" in text


@pytest.mark.parametrize("test", ["test_agrees", "test_allowed"])
def test_fields_that_are_not_compared_and_differences_that_are_allowed_do_not_fail(run, test):
    assert {run.outcomes()[f"{test}[{pool}]"] for pool in ("solo", "threads")} == {"passed"}


@pytest.mark.parametrize("test", ["test_alone", "test_fails_under_one"])
def test_one_pool_alone_is_not_agreement(run, test):
    assert f"{test}: not compared, only" in run.output


def test_expectations_are_judged_in_the_call_phase_so_that_xfail_applies(run):
    assert run.outcomes()["test_known_to_fail[solo]"] == "skipped"
    assert "xfail" in run.output.rpartition("= celery pools =")[2]


def test_the_matrix_shows_a_disagreement(run):
    line = next(line for line in run.output.rpartition("= celery pools =")[2].splitlines() if "test_disagrees" in line)
    assert line.split() == ["test_disagrees", "FAIL", "FAIL"]


def test_junit_has_the_disagreement_and_the_figures(run, shared_project):
    cases = ElementTree.parse(shared_project.path / "junit.xml").iter("testcase")
    of_test = [case for case in cases if case.get("name") == "test_disagrees[threads]"]
    assert any("ended differently" in (failure.text or "") for case in of_test for failure in case.iter("failure"))
    properties = {found.get("name"): found.get("value") for case in of_test for found in case.iter("property")}
    assert properties["celery_pool"] == "threads"
    assert float(properties["celery_runtime_max_s"]) > 0


def test_last_failed_runs_all_sides_of_a_disagreement_again(project):
    project.write(proj=APP, test_it=SUITE)
    options = ("--celery-app=proj:app", "--celery-pools=solo,threads", "-k", "agree")
    project.run(*options)
    again = project.run(*options, "--lf")
    assert sorted(set(again.outcomes())) == ["test_disagrees[solo]", "test_disagrees[threads]"]


def test_quiet_is_one_line_when_all_is_well(project):
    project.write(proj=APP, test_it=SUITE)
    run = project.run("--celery-app=proj:app", "--celery-pools=solo,threads", "-q", "-k", "test_agrees")
    assert run.status == 0, run.output
    assert [line for line in run.output.splitlines() if "celery" in line] == ["celery pools: 1 ok under solo, threads"]
