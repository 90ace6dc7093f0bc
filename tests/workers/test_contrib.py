"""Suites written for celery.contrib.pytest run under every pool as they stand."""

import shutil
import tempfile
from pathlib import Path

import pytest

from pytest_celerypool.broker import EmbeddedServer
from pytest_celerypool.reaper import Reaper

#: pytest knows contrib's fixtures by an entry point, which these runs do not load.
CONTRIB = "-pcelery.contrib.pytest"

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def celery_config():
    return {"broker_url": "memory://", "result_backend": "cache+memory://"}

@pytest.fixture(scope="session")
def celery_worker_pool():
    yield "threads"
    print("own pool torn down")

@pytest.fixture(scope="session")
def celery_worker_parameters():
    return {"queues": ("celery", "mail")}
"""

SUITE = """
import unittest
import pytest

def pool_of(worker):
    return type(worker.pool).__module__.rpartition(".")[2]

MODULES = {"threads": "thread"}

def expected(name):
    return MODULES.get(name, name)

@pytest.fixture
def tasks(celery_app):
    @celery_app.task(queue="mail")
    def add(x, y):
        return x + y

    return add

def test_function(tasks, celery_worker, celery_worker_pool):
    assert type(celery_worker_pool) is str
    assert pool_of(celery_worker) == expected(celery_worker_pool)
    assert tasks.delay(1, 2).get(timeout=10) == 3

def test_reload(celery_app, celery_worker):
    @celery_app.task
    def late():
        return "late"

    celery_worker.reload()
    assert late.delay().get(timeout=10) == "late"

def test_session(celery_session_app, celery_session_worker, celery_worker_pool):
    @celery_session_app.task
    def late():
        return "late"

    celery_session_worker.reload()
    assert late.delay().get(timeout=10) == "late"
    assert pool_of(celery_session_worker) == expected(celery_worker_pool)

def test_class_of_the_worker(celery_session_worker):
    from celery.contrib.testing.worker import TestWorkController

    assert isinstance(celery_session_worker, TestWorkController)
    assert celery_session_worker.concurrency == 1

@pytest.mark.celery_pools(exclude=("solo", "own"))
def test_narrowed(celery_worker):
    pass

@pytest.mark.celery_pools("gevent")
def test_none_left(celery_worker):
    pass

def test_plain():
    pass

@pytest.mark.parametrize("celery_worker_pool", ["solo"])
def test_by_hand(celery_worker):
    assert pool_of(celery_worker) == "solo"

class TestClass:
    @pytest.fixture(scope="class")
    def celery_worker_pool(self):
        return "solo"

    @pytest.mark.parametrize("number", [1, 2])
    def test_overridden(self, celery_worker, celery_worker_pool, number, request):
        if "own" in request.node.name:
            assert pool_of(celery_worker) == "solo"
        assert pool_of(celery_worker) == expected(celery_worker_pool)

def test_dynamic(request, celery_session_app):
    worker = request.getfixturevalue("celery_session_worker")
    assert request.getfixturevalue("celery_worker_pool") == "threads"
    assert pool_of(worker) == "thread"

@pytest.mark.usefixtures("celery_session_worker")
class TestCase(unittest.TestCase):
    def test_unittest(self):
        pass
"""

#: pytest would run the tests of one parameter together.
IN_WRITTEN_ORDER = """
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.location[1])
"""

MULTIPLIED = ("test_function", "test_reload", "test_session", "test_class_of_the_worker")


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(conftest=CONFTEST, test_it=SUITE)
    return shared_project.run(CONTRIB, "--celery-pools=prefork,solo,own,threads")


def test_everything_passes(run):
    assert {outcome for test, outcome in run.outcomes().items() if "none_left" not in test} == {"passed"}, run.output


@pytest.mark.parametrize("test", MULTIPLIED)
def test_a_test_with_a_worker_runs_once_a_pool(run, test):
    ran = [each for each in run.outcomes() if each.startswith(f"{test}[")]
    assert sorted(ran) == sorted(f"{test}[{pool}]" for pool in ("prefork", "solo", "own", "threads"))


def test_pools_run_in_the_order_of_the_option(run):
    ran = list(dict.fromkeys(test for test in run.outcomes() if test.startswith("test_function[")))
    assert ran == [f"test_function[{pool}]" for pool in ("prefork", "solo", "own", "threads")]


def test_a_marker_narrows_the_pools_of_the_run(run):
    ran = [test for test in run.outcomes() if test.startswith("test_narrowed")]
    assert sorted(ran) == ["test_narrowed[prefork]", "test_narrowed[threads]"]


def test_a_marker_that_leaves_no_pool_skips_the_test(run):
    assert run.outcomes()["test_none_left"] == "skipped"


def test_a_fixture_of_a_class_is_overridden_too(run):
    ran = [test for test in run.outcomes() if test.startswith("TestClass")]
    assert len(ran) == 8
    assert "TestClass::test_overridden[own-1]" in ran


@pytest.mark.parametrize("test", ["test_plain", "test_by_hand[solo]", "test_dynamic", "TestCase::test_unittest"])
def test_other_tests_run_once_under_the_pool_that_they_name(run, test):
    assert [each for each in run.outcomes() if each.startswith(test.partition("[")[0])] == [test]


def test_tests_that_reach_a_worker_dynamically_are_counted(run):
    assert "2 tests ran once, on a worker of their own" in run.output


def test_the_matrix_has_a_column_for_every_pool(run):
    assert run.output.count("own") >= 1
    assert any(line.split() == ["test_it.py", "prefork", "solo", "own", "threads"] for line in run.output.splitlines())


def test_what_is_in_memory_is_replaced_where_tasks_leave_the_process(run):
    text = " ".join(run.output.split())
    assert "the broker memory:// and the result backend cache+memory:// of celery.contrib.pytest's fixtures" in text


def test_nothing_is_left_behind(run, shared_project):
    assert not shared_project.remains()


def test_without_a_choice_nothing_changes(project):
    """The ids are those of the suite, also where it carries a marker of ours, and no module is imported for it."""
    project.write(
        conftest=CONFTEST,
        test_it="""
        import sys
        import pytest

        @pytest.mark.celery_pools(exclude="gevent")
        def test_marked(celery_worker_pool, celery_session_worker):
            assert celery_worker_pool == "threads"

        def test_modules():
            assert "pytest_celerypool.contrib" not in sys.modules
            assert "pytest_celerypool.standin" not in sys.modules
        """,
    )
    run = project.run(CONTRIB)
    assert run.outcomes() == {"test_marked": "passed", "test_modules": "passed"}


def test_contribs_worker_module_is_not_imported_before_the_fixture_is_set_up(project):
    """An earlier import breaks suites whose instrumentation hooks Celery first."""
    project.write(
        conftest=CONFTEST,
        test_it="""
        import sys
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def _instrumentation():
            assert "celery.contrib.testing.worker" not in sys.modules
            assert "celery.worker" not in sys.modules
            assert "celery.app.trace" not in sys.modules

        def test_it(celery_worker):
            pass
        """,
    )
    run = project.run(CONTRIB, "--celery-pools=solo")
    assert run.outcomes() == {"test_it[solo]": "passed"}


STUCK = """
import time
import pytest

@pytest.fixture(scope="session")
def forever(celery_session_app):
    @celery_session_app.task
    def forever():
        while True:
            time.sleep(0.05)

    return forever

@pytest.fixture(scope="session")
def add(celery_session_app):
    @celery_session_app.task
    def add(x, y):
        return x + y

    return add

def test_leaves_a_task(forever, add, celery_session_worker):
    from celery.worker import state

    forever.delay()
    # The ping by which contrib's fixture looks whether the worker lives may be there still.
    while forever.name not in [request.name for request in tuple(state.active_requests)]:
        time.sleep(0.01)

def test_next(add, celery_session_worker):
    assert add.delay(1, 2).get(timeout=5) == 3
    assert celery_session_worker.app.control.inspect(timeout=0.5).active().popitem()[1] == []
"""


@pytest.mark.gate("prefork")
@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_a_task_that_runs_for_ever_does_not_hang_the_next_test(project, pool):
    project.write(conftest=CONFTEST, test_it=STUCK)
    run = project.run(CONTRIB, f"--celery-pools={pool}")
    assert run.outcomes() == {f"test_leaves_a_task[{pool}]": "passed", f"test_next[{pool}]": "passed"}, run.output
    said = f"test_it.py::test_leaves_a_task[{pool}] left a task that did not end (test_it.forever): the worker was"
    assert said in " ".join(run.output.split())
    assert run.seconds < 30
    assert not project.remains()


@pytest.mark.gate("gevent")
@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_green_pools_run_in_a_host(project, pool):
    project.write(conftest=CONFTEST, test_it=SUITE)
    run = project.run(CONTRIB, f"--celery-pools={pool}", "-k", "function or reload or session or overridden")
    assert run.outcomes()
    assert set(run.outcomes().values()) == {"passed"}, run.output


CONCURRENCY = """
def test_it(celery_worker):
    print("slots", celery_worker.concurrency)
"""


@pytest.mark.parametrize(
    ("arguments", "parameters", "slots"),
    [
        ((), {}, 1),
        pytest.param(("--celery-concurrency=3",), {}, 3, marks=pytest.mark.slow),
        (("--celery-concurrency=threads=5",), {}, 5),
        pytest.param(("--celery-concurrency=gevent=5",), {}, 1, marks=pytest.mark.slow),
        (("--celery-concurrency=3",), {"concurrency": 1}, 1),
    ],
)
def test_the_concurrency_of_the_suite_beats_the_option_and_that_beats_one(project, arguments, parameters, slots):
    conftest = f"""
        import pytest

        @pytest.fixture(scope="session")
        def celery_worker_parameters():
            return {parameters!r}
    """
    project.write(conftest=conftest, test_it=CONCURRENCY)
    run = project.run(CONTRIB, "--celery-pools=threads", "-s", *arguments)
    assert f"slots {slots}\n" in run.output


@pytest.mark.slow
def test_a_broker_that_the_suite_chose_is_kept(project):
    """Only what is in memory is replaced: here the result backend, and not the broker, which nobody answers for."""
    conftest = """
        import pytest

        @pytest.fixture(scope="session")
        def celery_config():
            return {"broker_url": "redis://127.0.0.1:1/0", "result_backend": "cache+memory://"}
    """
    project.write(conftest=conftest, test_it="def test_it(celery_worker): pass\n")
    run = project.run(CONTRIB, "--celery-pools=prefork")
    assert "Error 111 connecting to 127.0.0.1:1" in run.failure("test_it[prefork]")


def test_own_stands_for_a_class_of_the_suite(project):
    conftest = """
        import pytest
        from celery.concurrency.solo import TaskPool

        class Mine(TaskPool):
            pass

        @pytest.fixture
        def base():
            return Mine

        @pytest.fixture
        def celery_worker_pool(base):
            yield base
            print("torn down")
    """
    test = """
        def test_it(celery_worker, celery_worker_pool, request):
            own = request.node.name == "test_it[own]"
            assert (type(celery_worker.pool).__name__ == "Mine") == own
    """
    project.write(conftest=conftest, test_it=test)
    run = project.run(CONTRIB, "--celery-pools=own,solo", "-s")
    assert run.outcomes() == {"test_it[own]": "passed", "test_it[solo]": "passed"}, run.output
    assert run.output.count("torn down") == 1


def test_a_suite_s_own_fixture_that_fails_does_so_in_each_of_its_tests_and_in_no_other(project):
    conftest = """
        import pytest

        @pytest.fixture(scope="session")
        def celery_worker_pool():
            raise RuntimeError("no pool today")
    """
    test = """
        def test_one(celery_session_worker): pass
        def test_two(celery_worker): pass
    """
    project.write(conftest=conftest, test_it=test)
    run = project.run(CONTRIB, "--celery-pools=own,solo")
    assert "no pool today" in run.failure("test_one[own]")
    assert "no pool today" in run.failure("test_two[own]")
    assert {run.outcomes()[f"test_{name}[solo]"] for name in ("one", "two")} == {"passed"}, run.output


def test_own_is_what_each_test_would_have_without_us(project):
    """Two modules with fixtures of their own do not get each other's value."""
    module = """
        import pytest

        @pytest.fixture(scope="session")
        def celery_worker_pool():
            return "{pool}"

        def test_it(celery_session_worker, celery_worker_pool):
            assert celery_worker_pool == "{pool}"
            assert "{module}" in type(celery_session_worker.pool).__module__
    """
    project.write(
        test_one=module.format(pool="solo", module="solo"), test_two=module.format(pool="threads", module="thread")
    )
    run = project.run(CONTRIB, "--celery-pools=own")
    assert list(run.outcomes().values()) == ["passed"], run.output  # both are test_it[own]
    assert "2 passed" in run.output


def test_a_pool_without_its_library_is_skipped(project):
    project.write(
        conftest="""
        import importlib.util

        find_spec = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name == "gevent" else find_spec(name, package)
        """,
        test_it="def test_it(celery_worker): pass\n",
    )
    run = project.run(CONTRIB, "--celery-pools=gevent,solo")
    assert run.outcomes() == {"test_it[gevent]": "skipped", "test_it[solo]": "passed"}


@pytest.mark.slow
def test_a_suite_whose_fixture_has_params_is_left_alone(project):
    conftest = """
        import pytest

        @pytest.fixture(scope="session", params=["solo", "threads"])
        def celery_worker_pool(request):
            return request.param
    """
    project.write(conftest=conftest, test_it="def test_it(celery_worker): pass\n")
    run = project.run(CONTRIB, "--celery-pools=threads")
    assert run.outcomes() == {"test_it[solo]": "passed", "test_it[threads]": "passed"}


@pytest.mark.slow
def test_a_test_that_has_our_worker_too_follows_our_axis(project):
    project.write(
        proj="from celery import Celery\napp = Celery('proj')\n",
        test_it="def test_it(celery_pool, celery_worker, celery_worker_pool): assert celery_worker_pool == 'solo'\n",
    )
    run = project.run(CONTRIB, "--celery-pools=threads", "--celery-app=proj:app")
    assert run.outcomes() == {"test_it[threads]": "passed"}


def test_a_task_defined_in_a_test_is_defined_anew_under_every_pool(project):
    """The application of the session is the same for the pools that share a process."""
    test = """
        def test_it(celery_session_app, celery_session_worker, celery_worker_pool):
            pool = celery_worker_pool

            @celery_session_app.task
            def name():
                return pool

            celery_session_worker.reload()
            assert name.delay().get(timeout=10) == pool
    """
    project.write(conftest=CONFTEST, test_it=test)
    run = project.run(CONTRIB, "--celery-pools=solo,threads")
    assert run.outcomes() == {"test_it[solo]": "passed", "test_it[threads]": "passed"}


def test_a_worker_that_cannot_start_says_why_at_once(project):
    conftest = """
        import pytest

        @pytest.fixture(scope="session")
        def celery_worker_parameters():
            return {"queues": ["a"], "consumer_cls": "no.such:Consumer"}
    """
    project.write(conftest=conftest, test_it="def test_it(celery_worker): pass\n")
    run = project.run(CONTRIB, "--celery-pools=solo")
    assert "No module named 'no'" in run.failure("test_it[solo]")
    assert run.seconds < 10


@pytest.mark.slow
def test_workers_of_the_pools_and_of_the_suite_do_not_meet(project):
    """Tests that are not multiplied come between others, and get the suite's own worker all the same."""
    test = """
        def pool_of(worker):
            return type(worker.pool).__module__.rpartition(".")[2]

        def test_first(celery_session_worker):
            assert pool_of(celery_session_worker) == "solo"

        def test_dynamic(request):
            assert pool_of(request.getfixturevalue("celery_session_worker")) == "thread"

        def test_third(celery_session_worker):
            assert pool_of(celery_session_worker) == "solo"

        def test_dynamic_again(request):
            assert pool_of(request.getfixturevalue("celery_session_worker")) == "thread"
    """
    project.write(conftest=CONFTEST + IN_WRITTEN_ORDER, test_it=test)
    run = project.run(CONTRIB, "--celery-pools=solo")
    assert list(run.outcomes().items()) == [
        ("test_first[solo]", "passed"),
        ("test_dynamic", "passed"),
        ("test_third[solo]", "passed"),
        ("test_dynamic_again", "passed"),
    ], run.output


@pytest.mark.slow
def test_xdist_runs_the_same_tests(project):
    project.write(conftest=CONFTEST, test_it=SUITE)
    run = project.run(CONTRIB, "--celery-pools=solo,threads", "-n2")
    assert len(run.outcomes()) == 18
    assert set(run.outcomes().values()) == {"passed", "skipped"}, run.output


@pytest.fixture
def server():
    """The URL of a server that the suite itself chooses."""
    folder = Path(tempfile.mkdtemp(prefix="celerypool-", dir="/tmp"))
    reaper = Reaper.start()
    reaper.remove_folder(folder)
    started = EmbeddedServer.start(folder, reaper)
    yield started.url
    started.stop()
    reaper.close()
    shutil.rmtree(folder)


SHARED_QUEUE = """
    import os
    import pytest
    from celery import shared_task

    pytest_plugins = ["celery.contrib.pytest"]

    @shared_task(name="where")
    def where():
        return os.getpid()

    @pytest.fixture(scope="session")
    def celery_config():
        return {"broker_url": os.environ["SUITES_BROKER"], "result_backend": os.environ["SUITES_BROKER"]}
"""


@pytest.mark.slow
def test_a_test_that_relies_on_the_session_worker_of_others_has_one(project, server):
    """It asks for the application alone; in the suite as it was an earlier test had started the worker."""
    project.write(
        conftest=SHARED_QUEUE,
        test_it="""
        from conftest import where

        def test_with_a_worker(celery_session_worker):
            assert where.delay().get(timeout=10)

        def test_relies_on_it(celery_session_app):
            assert where.delay().get(timeout=10)
        """,
    )
    ended = project.run("--celery-pools=gevent", environment={"SUITES_BROKER": server})
    assert ended.outcomes() == {"test_with_a_worker[gevent]": "passed", "test_relies_on_it": "passed"}, ended.output
    assert not project.remains()


@pytest.mark.slow
def test_the_session_worker_of_one_process_takes_no_task_of_a_test_in_another(project, server):
    """With a broker of the suite's own all its workers consume the same queue."""
    project.write(
        conftest=SHARED_QUEUE,
        test_it="""
        import os
        from conftest import where

        def test_here(celery_session_worker, celery_worker_pool):
            places = [where.delay() for _ in range(20)]
            assert {place.get(timeout=10) for place in places} == {os.getpid()}
        """,
    )
    ended = project.run("--celery-pools=threads,gevent,eventlet", environment={"SUITES_BROKER": server})
    assert set(ended.outcomes().values()) == {"passed"}, ended.output


def test_a_failure_that_lies_in_the_nature_of_its_pool_is_told_apart(project):
    """In one line each; a failure that does not has none."""
    project.write(
        test_it="""
        import time
        from unittest import mock

        import pytest

        spy = mock.Mock()

        @pytest.fixture
        def tasks(celery_app):
            class Tasks:
                @celery_app.task(name="naps", shared=False)
                def naps(seconds):
                    time.sleep(seconds)

                @celery_app.task(name="spies", shared=False)
                def spies():
                    spy()
            return Tasks

        def test_soft_limit(tasks, celery_worker):
            result = tasks.naps.apply_async((0.3,), soft_time_limit=0.1)
            with pytest.raises(Exception):
                result.get(timeout=10)

        def test_asks_while_it_works(tasks, celery_worker, celery_app):
            result = tasks.naps.delay(1.5)
            time.sleep(0.2)
            assert celery_app.control.inspect(timeout=0.5).active()
            result.get(timeout=10)

        def test_mock(tasks, celery_worker):
            tasks.spies.delay().get(timeout=10)
            spy.assert_called_once()
            spy.reset_mock()

        def test_something_else(tasks, celery_worker):
            tasks.naps.delay(0).get(timeout=10)
            assert False
        """
    )
    ended = project.run(CONTRIB, "--celery-pools=prefork,solo,threads")
    nature = {
        "test_soft_limit[solo]": "a soft time limit, which solo does not enforce: a property of the pool",
        "test_soft_limit[threads]": "a soft time limit, which threads does not enforce: a property of the pool",
        "test_asks_while_it_works[solo]": "solo answers remote control only between two tasks: a property of the pool",
        "test_mock[prefork]": "the tasks of prefork run in others: a property of the pool",
    }
    others = {f"test_something_else[{pool}]" for pool in ("prefork", "solo", "threads")}
    failed = {name for name, outcome in ended.outcomes().items() if outcome == "failed"}
    assert failed == nature.keys() | others, ended.output
    for name, text in nature.items():
        assert text in ended.failure(name)
    assert not any("a property of the pool" in ended.failure(name) for name in others)


@pytest.mark.gate("prefork")
@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_a_session_worker_that_a_test_ends_is_replaced(project, pool):
    """Or every later test of its pool would fail for what an earlier one did."""
    project.write(
        conftest=CONFTEST,
        test_it="""
        import time
        import pytest

        def test_ends_it(celery_session_app, celery_session_worker):
            celery_session_app.control.shutdown()
            time.sleep(1)

        def test_next(celery_session_app, celery_session_worker):
            @celery_session_app.task
            def fine():
                return 1
            celery_session_worker.reload()
            assert fine.delay().get(timeout=5) == 1
        """,
    )
    ended = project.run(CONTRIB, f"--celery-pools={pool}")
    assert ended.outcomes() == {f"test_ends_it[{pool}]": "passed", f"test_next[{pool}]": "passed"}, ended.output
    assert f"test_ends_it[{pool}] ended the worker: the worker was replaced" in " ".join(ended.output.split())
    assert not project.remains()


@pytest.mark.slow
def test_a_task_that_is_just_queued_at_the_end_of_its_test_does_not_hold_up_prefork(project):
    """A child waits up to thirty seconds for somebody to read its last result."""
    project.write(
        conftest=CONFTEST,
        test_it="""
        import pytest

        @pytest.fixture
        def quick(celery_app):
            @celery_app.task(name="quick", shared=False)
            def quick():
                return 1
            return quick

        @pytest.mark.parametrize("number", range(12))
        def test_it(number, quick, celery_worker):
            assert quick.delay().get(timeout=10) == 1
            quick.delay()
        """,
    )
    ended = project.run(CONTRIB, "--celery-pools=prefork")
    assert set(ended.outcomes().values()) == {"passed"}, ended.output
    assert ended.seconds < 20


FORGETFUL = """
    import os
    import pytest
    from celery import shared_task

    pytest_plugins = ["celery.contrib.pytest"]

    @shared_task(name="remember")
    def remember():
        os.environ["TENANT_OF_TEST"] = "ann"

    def test_remember(celery_session_app, celery_session_worker):
        remember.delay().get(timeout=10)
"""


@pytest.mark.gate("gevent")
@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_a_suite_that_knows_nothing_of_findings_gets_them_as_warnings(project, pool):
    project.write(test_it=FORGETFUL)
    done = project.run(f"--celery-pools={pool}")
    assert done.outcomes() == {f"test_remember[{pool}]": "passed"}
    assert f"WARN state-left: remember under {pool}" in done.output
    assert "in remember: os.environ[" in done.output


def test_a_finding_of_such_a_suite_fails_where_the_user_chose_so(project):
    project.write(test_it=FORGETFUL)
    done = project.run("--celery-pools=solo", "--celery-findings=fail")
    assert "state-left: remember under solo" in done.failure("test_remember[solo]")
