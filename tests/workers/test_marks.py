"""A test has the worker, the pool and the verdict that its own marks say, wherever these stand."""

import pytest

PROJ = """
from celery import Celery
app = Celery("proj")

@app.task
def add(x, y):
    return x + y
"""

SUITE = """
import unittest
import pytest
from proj import add

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.celery_expect(state="FAILURE")), 2])
def test_set(x):
    if x == 1:
        assert add.delay(1, 2).get() == 3

def test_later():
    assert add.delay(1, 2).get() == 3

@pytest.mark.parametrize("x", [1])
def test_later_set(x):
    assert add.delay(1, 2).get() == 3

def test_later_pool(celery_pool):
    assert add.delay(1, 2).get() == 3

def test_plain(request):
    assert "celery_pool_worker" not in request.fixturenames

@pytest.mark.celery_pools("gevent", "threads", concurrency=[3, 4])
class TestCase(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def worker(self, celery_pool_worker, celery_pool):
        self.worker, self.pool = celery_pool_worker, celery_pool

    def test_it(self):
        assert add.delay(1, 2).get() == 3
        assert [self.worker.pool.name, self.pool.name, self.worker.concurrency] == ["threads", "threads", 3]
"""

CONFTEST = """
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("test_later"):
            item.add_marker(pytest.mark.celery_expect(state="FAILURE"))
"""


EXPECTED = "expected state=FAILURE, found SUCCESS"

JUDGED = {
    "test_set[1-solo]": "solo",
    "test_set[1-threads]": "threads",
    "test_later_pool[solo]": "solo",
    "test_later_pool[threads]": "threads",
    "test_later": "solo",
    "test_later_set[1]": "solo",
}


@pytest.fixture(scope="module", params=[(), pytest.param(("-n1",), marks=pytest.mark.slow)], ids=["", "xdist"])
def run(request, shared_project):
    shared_project.write(proj=PROJ, conftest=CONFTEST, test_it=SUITE)
    return shared_project.run("--celery-app=proj:app", "--celery-pools=solo,threads", *request.param)


@pytest.mark.parametrize("test", JUDGED)
def test_it_is_judged_under_its_pool(run, test):
    assert f"under {JUDGED[test]}: {EXPECTED}" in run.failure(test)


def test_every_other_test_passes(run):
    others = {test: outcome for test, outcome in run.outcomes().items() if test not in JUDGED}
    assert others == dict.fromkeys(["test_set[2]", "test_plain", "TestCase::test_it"], "passed"), run.output


def test_those_that_were_not_multiplied_are_counted(run):
    assert "3 tests ran once, on a worker of their own" in run.output


IN_A_HOST = """
import os
import unittest
import pytest
from proj import add

here = os.environ["PYTEST_PROCESS"]

@pytest.mark.celery_pools("gevent", launch="inprocess")
class TestCase(unittest.TestCase):
    def test_it(self):
        assert add.delay(1, 2).get() == 3
        assert str(os.getpid()) != here

def test_later():
    assert add.delay(1, 2).get() == 3
    assert str(os.getpid()) != here
"""

CONFTEST_OF_A_HOST = """
import os
import pytest

os.environ.setdefault("PYTEST_PROCESS", str(os.getpid()))

def pytest_collection_modifyitems(items):
    for item in items:
        if item.name == "test_later":
            item.add_marker(pytest.mark.celery_pools("gevent", launch="inprocess"))
"""


def test_what_was_not_multiplied_runs_in_a_host_too(project):
    project.write(proj=PROJ, conftest=CONFTEST_OF_A_HOST, test_it=IN_A_HOST)
    run = project.run("--celery-app=proj:app")
    assert run.outcomes() == {"TestCase::test_it": "passed", "test_later": "passed"}, run.output
    assert not project.remains()


OF_CONTRIB = """
import pytest
from celery import Celery

app = Celery("proj", broker="memory://", backend="cache+memory://")

@app.task
def add(x, y):
    return x + y

@pytest.fixture
def celery_app():
    import celery.contrib.testing.tasks
    return app

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.celery_pools("threads")), 2])
def test_set(celery_worker, celery_worker_pool, x):
    assert add.delay(x, 2).get(timeout=10) == x + 2
    assert celery_worker_pool == "threads" or x == 2

@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.celery_expect), 2])
def test_judged(celery_worker, x):
    pass
"""


def test_contribs_workers_are_of_the_pools_of_a_parameter_set_and_a_verdict_is_refused(project):
    project.write(test_it=OF_CONTRIB)
    run = project.run("-pcelery.contrib.pytest", "--celery-pools=solo,threads")
    assert run.outcomes() == {
        "test_set[threads-1]": "passed",
        "test_set[solo-2]": "passed",
        "test_set[threads-2]": "passed",
        "test_judged[solo-1]": "failed",
        "test_judged[solo-2]": "passed",
        "test_judged[threads-1]": "failed",
        "test_judged[threads-2]": "passed",
    }, run.output
    assert "on a parameter set, or added by a hook, gives no worker" in run.failure("test_judged[solo-1]")
