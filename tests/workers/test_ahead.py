"""Workers that later tests need start ahead, and disturb no measurement."""

APP = """
import sys
import time
from celery import Celery

app = Celery("proj")

if "pytest" not in sys.modules and "threads" in sys.argv:
    time.sleep(2)  # still starting while the first test runs

@app.task
def add(x, y):
    return x + y
"""

SUITE = """
import psutil
import pytest
from proj import add

def starting():
    return [child.status() for child in psutil.Process().children() if "threads" in child.cmdline()]

def test_first(celery_pool_worker, celery_pool):
    assert celery_pool_worker.run(add, 1, 2) == 3
    if str(celery_pool) == "solo":
        assert starting() and psutil.STATUS_STOPPED not in starting()

@pytest.mark.celery_budget(runtime="5s")
def test_timed(celery_pool_worker, celery_pool):
    assert celery_pool_worker.run(add, 1, 2) == 3
    if str(celery_pool) == "solo":
        assert starting() == [psutil.STATUS_STOPPED]

def test_last(celery_pool_worker, celery_pool):
    assert celery_pool_worker.run(add, 1, 2) == 3
    if str(celery_pool) == "solo":
        assert starting() and psutil.STATUS_STOPPED not in starting()
"""


def test_a_worker_that_starts_ahead_is_halted_during_a_test_with_a_time_budget(project):
    project.write(proj=APP, test_it=SUITE)
    run = project.run("--celery-app=proj:app", "--celery-pools=solo,threads")
    assert run.status == 0, run.output
    assert len(run.outcomes()) == 6
    assert not project.remains()
