"""Suites that start their workers themselves run under every pool where the ini key names them."""

import pytest

PROJ = """
import os
from celery import Celery
app = Celery("proj", broker="memory://", backend="cache+memory://")

@app.task
def add(x, y):
    return x + y
"""

SUITE = """
import unittest
import pytest
from celery.contrib.testing.worker import start_worker
import celery.contrib.testing.tasks
from proj import add, app

seen = []

def pool_of(worker):
    return type(worker.pool).__module__.rpartition(".")[2].replace("thread", "threads")

class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.context = start_worker(app, pool="solo")
        cls.worker = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)
        super().tearDownClass()

    def test_add(self):
        assert add.delay(1, 2).get(timeout=10) == 3
        print("pool of the class", pool_of(self.worker))

def test_function():
    with start_worker(app, perform_ping_check=False) as worker:
        assert add.delay(1, 2).get(timeout=10) == 3
        print("pool of the function", pool_of(worker))

@pytest.fixture(scope="module")
def worker():
    with start_worker(app) as worker:
        yield worker

def test_fixture(worker, request):
    assert add.delay(1, 2).get(timeout=10) == 3
    print("pool of the fixture", pool_of(worker))

class TestOther(unittest.TestCase):
    def test_plain(self):
        pass
"""

POOLS = ("prefork", "solo", "threads", "gevent", "eventlet")
INI = "[pytest]\ncelery_multiply =\n    test_it.py::TestCase\n    test_it.py::test_f*\n"


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(proj=PROJ, test_it=SUITE)
    (shared_project.path / "pytest.ini").write_text(INI)
    return shared_project.run("--celery-pools=all", "-rP")


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("test", "line"),
    [
        ("TestCase[{}]::test_add", "pool of the class"),
        ("test_function[{}]", "pool of the function"),
        ("test_fixture[{}]", "pool of the fixture"),
    ],
)
def test_each_runs_under_each_pool_with_a_worker_of_it(run, test, line, pool):
    name = test.format(pool)
    assert run.outcomes()[name] == "passed", run.output
    texts = [text for report in run.reports if report["nodeid"].endswith(name) for _, text in report["sections"]]
    assert f"{line} {pool}" in "\n".join(texts)


def test_what_is_not_named_stays_as_it_is(run):
    assert run.outcomes()["TestOther::test_plain"] == "passed"


def test_they_stand_in_the_matrix(run):
    assert "celery pools" in run.output
    row = next(line for line in run.output.splitlines() if line.strip().startswith("TestCase::test_add"))
    assert row.split()[1:] == ["ok"] * 5


def test_nothing_is_left(run, shared_project):
    assert not shared_project.remains()


def test_without_a_choice_of_pools_the_ini_key_does_nothing(project):
    project.write(proj=PROJ, test_it=SUITE)
    (project.path / "pytest.ini").write_text(INI)
    ended = project.run("--collect-only", "-q")
    assert "[" not in ended.output.partition("tests collected")[0].replace("[100%]", "")
