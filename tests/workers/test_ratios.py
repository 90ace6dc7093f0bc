"""Relative budgets, over runs with real workers."""

import pytest

APP = """
import threading, time
from celery import Celery

app = Celery("proj")
LOCK = threading.Lock()

@app.task
def blocks(seconds):
    with LOCK:
        time.sleep(seconds)
"""

SUITE = """
import pytest
from proj import blocks

@pytest.mark.celery_budget(runtime={"ratio_to": "solo", "at_most": 1.5})
def test_each_waits_for_the_others(celery_pool_worker):
    celery_pool_worker.map(blocks, [0.1] * 10)

@pytest.mark.celery_budget(makespan={"ratio_to": "solo", "at_most": 10, "at_least": 0.1})
def test_within(celery_pool_worker):
    celery_pool_worker.map(blocks, [0.1] * 2)

@pytest.mark.celery_budget(runtime={"ratio_to": "solo", "at_most": 1.5})
def test_no_reference(celery_pool_worker, celery_pool):
    celery_pool_worker.run(blocks, 0.1)
    assert str(celery_pool) != "solo"

@pytest.mark.celery_pools("threads")
@pytest.mark.celery_budget(runtime={"ratio_to": "sollo", "at_most": 1.5})
def test_misspelt(celery_pool_worker):
    pass
"""


@pytest.fixture(
    scope="module", params=[(), pytest.param(("-n2",), marks=pytest.mark.slow)], ids=["one process", "xdist"]
)
def run(request, shared_project):
    shared_project.write(proj=APP, test_it=SUITE)
    return shared_project.run("--celery-app=proj:app", "--celery-pools=solo,threads", *request.param)


def test_a_broken_one_fails_the_pool_concerned_and_shows_both_sides(run):
    assert run.status == 1, run.output
    outcomes = run.outcomes()
    assert outcomes["test_each_waits_for_the_others[solo]"] == "passed"
    text = run.failure("test_each_waits_for_the_others[threads]")
    assert "proj.blocks (10 times) under threads: runtime is " in text
    assert " times that under solo, above the limit of 1.5 times" in text
    assert "  solo:    " in text
    assert "  threads: " in text
    matrix = run.output.rpartition("= celery pools =")[2]
    line = next(line for line in matrix.splitlines() if "test_each_waits" in line)
    assert line.split() == ["test_each_waits_for_the_others", "ok", "FAIL"]


def test_one_within_its_bounds_passes(run):
    assert {run.outcomes()[f"test_within[{pool}]"] for pool in ("solo", "threads")} == {"passed"}


def test_a_pool_without_figures_is_noted_and_nothing_passes_by_it(run):
    assert run.outcomes()["test_no_reference[threads]"] == "passed"
    said = " ".join(run.output.rpartition("= celery pools =")[2].split())
    assert "::test_no_reference: runtime under threads not compared: the test has no figures under solo" in said


def test_a_misspelt_pool_is_an_error_that_names_the_marker(run):
    text = run.failure("test_misspelt[solo]")
    assert "celery_budget: runtime: ratio_to: 'sollo' is not a pool." in text
