"""What only a worker in the process of the test can do, and what it must not do to that process."""

import pytest

from pytest_celerypool.pools import POOLS

APP = """
import os
import threading
import time
from celery import Celery, signals

app = Celery("proj", broker="amqp://no.such.host//", backend="redis://no.such.host")
RATE = 1
release = threading.Event()

@app.task
def price(a, b):
    return a * b * RATE

@app.task
def waits():
    return price.delay(2, 2).get(timeout=5)

@app.task(ignore_result=True)
def stuck():
    while not os.path.exists("release"):
        time.sleep(0.01)
"""

SUITE = """
import logging
import os
import threading
import time
from unittest import mock

import pytest
from celery import Celery, _state
from celery.worker import state

import proj
from proj import app, price, stuck, waits

FORKS = "Its children were forked before"

def test_it_lives_here(celery_pool_worker):
    assert (celery_pool_worker.launch, celery_pool_worker.pid) == ("inprocess", os.getpid())

def test_a_patch_made_before_the_worker_is_asked_for_reaches_the_task(monkeypatch, patched, celery_pool_worker):
    assert price.delay(1, 2).get() == 20

@pytest.fixture
def patched(monkeypatch):
    monkeypatch.setattr(proj, "RATE", 10)

def test_a_later_patch_reaches_the_task_where_nothing_is_forked(celery_pool_worker):
    with mock.patch.object(proj, "RATE", 10):
        expected = 2 if celery_pool_worker.pool.forks else 20
        assert price.delay(1, 2).get() == expected

def test_after_a_restart_a_later_patch_reaches_every_task(celery_pool_worker, monkeypatch):
    monkeypatch.setattr(proj, "RATE", 10)
    celery_pool_worker.restart()
    assert price.delay(1, 2).get() == 20

def test_a_task_defined_in_a_fixture(local, celery_pool_worker):
    assert celery_pool_worker.run(local, 1) == 2

@pytest.fixture
def local():
    @app.task
    def local(number):
        return number + 1
    return local

def test_a_task_defined_in_the_test(celery_pool_worker):
    @app.task
    def inner(number):
        return number + 2
    if celery_pool_worker.pool.forks:
        with pytest.raises(Exception, match=FORKS):
            celery_pool_worker.run(inner, 1)
        celery_pool_worker.restart()
    assert inner.delay(1).get() == 3

def test_tasks_of_other_tests_are_gone():
    assert not [name for name in app.tasks if "local" in name or "inner" in name]

@pytest.fixture
def made():
    with Celery("made", set_as_current=False) as made:
        yield made

class TestAnApplicationOfAFixture:
    @pytest.fixture
    def celery_pool_app(self, made):
        @made.task(name="double", shared=False)
        def double(x):
            return 2 * x
        return made

    def test_it(self, celery_pool_worker, celery_pool_app):
        assert celery_pool_app.tasks["double"].delay(4).get() == 8

@pytest.mark.celery_allow("join-in-task", "join-allowed", reason="it is what this test is about")
def test_get_in_a_task_is_refused_as_it_is_in_production(celery_pool_worker):
    result = waits.delay()
    if celery_pool_worker.pool.allows_get_in_task:
        assert result.get() == 4
    else:
        with pytest.raises(RuntimeError, match="Never call result.get"):
            result.get()

def test_kill_is_refused(celery_pool_worker):
    with pytest.raises(Exception, match="lives in the process that runs the test"):
        celery_pool_worker.kill()

def test_the_log_is_that_of_the_worker(celery_pool_worker):
    logging.getLogger("of.the.test").warning("mine")
    price.delay(1, 1).get()
    celery_pool_worker.drain()
    assert "proj.price" in celery_pool_worker.log
    assert "mine" not in celery_pool_worker.log

def test_memory_is_measured(celery_pool_worker):
    assert celery_pool_worker.launched.memory() > 1 << 20

def test_where_every_slot_is(celery_pool_worker):
    if celery_pool_worker.pool.name == "solo":
        return  # test_a_task_that_never_ends
    stuck.delay()
    with pytest.raises(TimeoutError, match="stuck"):
        celery_pool_worker.drain(0.3)
    open("release", "w").close()
    celery_pool_worker.drain()
    os.remove("release")

@pytest.fixture(autouse=True)
def process_is_as_it_was(request):
    before = snapshot()
    yield
    assert snapshot() == before, request.node.name

def snapshot():
    root = logging.getLogger()
    return [
        _state.default_app, getattr(_state._tls, "current_app", None), _state.task_join_will_block(),
        state.should_stop, state.should_terminate, dict(state.total_count), list(state.active_requests),
        root.level, len(root.handlers), logging.getLogger("celery").level, app.conf.broker_url, dict(app.conf.changes),
        sorted(thread.name for thread in threading.enumerate()),
    ]
"""


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(proj=APP, test_it=SUITE)
    return shared_project.run("--celery-app=proj:app", "--celery-pools=all", "--celery-launch=inprocess", "-Werror")


#: With an application of its own a test cannot be given that of the option.
TESTS = [
    line[4:].partition("(")[0]
    for line in SUITE.splitlines()
    if line.startswith("def test_") and "celery_pool_worker" in line
]


@pytest.mark.parametrize("pool", [pool.name for pool in POOLS])
@pytest.mark.parametrize("test", TESTS)
def test_passes(run, test, pool):
    assert run.outcomes().get(f"{test}[{pool}]") == "passed", run.failure(f"{test}[{pool}]")


def test_what_needs_no_worker_passes(run):
    assert run.outcomes()["test_tasks_of_other_tests_are_gone"] == "passed"


def test_nothing_is_left(run, shared_project):
    assert not shared_project.remains()


@pytest.mark.gate("prefork", "gevent")
@pytest.mark.parametrize("pool", [pool.name for pool in POOLS])
def test_an_application_of_a_fixture_needs_no_module(project, pool):
    project.write(proj=APP, test_it=SUITE)
    ended = project.run(f"--celery-pools={pool}", "--celery-launch=inprocess", "-k", "AnApplicationOfAFixture")
    assert set(ended.outcomes().values()) == {"passed"}, ended.output


@pytest.mark.gate("prefork", "gevent")
@pytest.mark.parametrize("pool", [pool.name for pool in POOLS])
def test_a_worker_that_cannot_start_raises_its_own_exception_at_once(project, pool):
    project.write(
        proj=APP
        + """
@signals.worker_init.connect
def refuse(**_):
    raise LookupError("no configuration for this worker")

from celery import bootsteps

class Refusing(bootsteps.StartStopStep):
    def start(self, consumer):
        raise LookupError("the step cannot start")

app.steps["consumer"].add(Refusing)
""",
        test_it="""
        def test_first(celery_pool_worker): pass
        def test_second(celery_pool_worker): pass
        """,
    )
    ended = project.run("--celery-app=proj:app", f"--celery-pools={pool}", "--celery-launch=inprocess", "-v")
    assert "LookupError: the step cannot start" in ended.failure(f"test_first[{pool}]")
    assert "LookupError: the step cannot start" in ended.failure(f"test_second[{pool}]")
    assert ended.seconds < 10
    assert not project.remains()


@pytest.mark.gate("prefork", "gevent")
@pytest.mark.parametrize("pool", [pool.name for pool in POOLS])
def test_a_task_that_never_ends_costs_its_own_test(project, pool):
    project.write(
        proj=APP,
        test_it="""
        import pytest
        from proj import price, stuck

        @pytest.mark.celery_expect
        def test_first():
            stuck.delay()

        def test_second(celery_pool_worker):
            assert celery_pool_worker.run(price, 1, 2) == 2
        """,
    )
    ended = project.run(
        "--celery-app=proj:app", f"--celery-pools={pool}", "--celery-launch=inprocess", "--celery-timeout=0.5"
    )
    assert ended.outcomes() == {f"test_first[{pool}]": "failed", f"test_second[{pool}]": "passed"}, ended.output
    assert "stuck" in ended.failure(f"test_first[{pool}]")
    assert not project.remains()


def test_a_task_that_cannot_be_interrupted_does_not_keep_pytest(project):
    """A thread in a call of C; the interpreter would wait for it for ever."""
    project.write(
        proj=APP
        + """
import ctypes

@app.task(ignore_result=True)
def deaf():
    ctypes.CDLL(None).sleep(60)
""",
        test_it="""
        from proj import deaf

        def test_it(celery_pool_worker):
            deaf.delay()
        """,
    )
    ended = project.run(
        "--celery-app=proj:app", "--celery-pools=threads", "--celery-launch=inprocess", "--celery-timeout=0.5"
    )
    assert ended.seconds < 20
    assert ended.status == 1
    assert "outside of Python, where nothing can interrupt it" in " ".join(ended.output.split())


def test_a_wrong_option_of_the_command_line_is_named(project):
    project.write(
        proj=APP,
        test_it="""
        import pytest

        @pytest.mark.celery_pools("solo", launch="inprocess", options="--max-task-per-child 1")
        def test_it(celery_pool_worker): pass
        """,
    )
    text = project.run("--celery-app=proj:app").failure("test_it[solo]")
    assert "the options '--max-task-per-child 1': No such option" in text


def test_the_marker_chooses_the_launch_of_one_test(project):
    project.write(
        proj=APP,
        test_it="""
        import os, pytest

        @pytest.mark.celery_pools(launch="inprocess")
        def test_here(celery_pool_worker):
            assert celery_pool_worker.pid == os.getpid()

        def test_there(celery_pool_worker):
            assert celery_pool_worker.pid != os.getpid()
        """,
    )
    ended = project.run("--celery-app=proj:app", "--celery-pools=threads,solo")
    assert set(ended.outcomes().values()) == {"passed"}, ended.output
