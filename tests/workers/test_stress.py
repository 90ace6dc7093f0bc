"""``--celery-stress``: a test's tasks are sent again, all at once, and count for nothing but findings."""

import re

import pytest

PROJ = """
    import os, threading, time
    from celery import Celery

    app = Celery("proj")
    inside, most = 0, 0

    @app.task
    def wait(n):
        global inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        inside -= 1
        with open(os.environ["RAN"], "a") as file:
            file.write(f"{n}\\n")
        return n

    @app.task
    def together():
        return most

    @app.task
    def once(path):
        os.mkdir(path)

    @app.task
    def parent():
        wait.delay(9)
"""

TESTS = """
    import pytest
    from proj import app, once, parent, together, wait

    @pytest.mark.celery_expect(executions=1)
    @pytest.mark.celery_budget(makespan="5s")
    def test_wait(celery_pool_worker):
        results = [wait.delay(n) for n in range(3)]
        assert [result.get() for result in results] == [0, 1, 2]
        assert len(celery_pool_worker.spans) == 3

    def test_once(celery_pool_worker, tmp_path):
        once.delay(str(tmp_path / "made")).get()

    def test_parent(celery_pool_worker):
        parent.delay().get()

    def test_nothing(celery_pool_worker):
        pass
"""


@pytest.fixture
def stressed(project, tmp_path):
    project.write(proj=PROJ, test_it=TESTS)
    ran = tmp_path / "ran"

    def run(*arguments):
        ran.unlink(missing_ok=True)
        done = project.run("--celery-app=proj:app", *arguments, environment={"RAN": str(ran)})
        return done, ran.read_text().split() if ran.exists() else []

    return run


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize("launch", ["subprocess", "inprocess"])
def test_every_task_runs_as_often_again_and_counts_in_nothing(stressed, launch):
    done, ran = stressed("--celery-pools=threads", "--celery-stress=4", f"--celery-launch={launch}", "-k", "test_wait")
    assert done.outcomes() == {"test_wait[threads]": "passed"}
    assert sorted(ran) == ["0"] * 5 + ["1"] * 5 + ["2"] * 5
    assert done.property("test_wait[threads]", "celery_spans") == [3]


def test_the_order_is_shuffled_by_a_printed_seed_which_repeats_it(stressed):
    arguments = ("--celery-pools=solo", "-k", "test_wait")
    done, ran = stressed("--celery-stress=5", *arguments)
    (seed,) = re.findall(r"celery stress: 5:(\d+) \(--celery-stress\)", done.output)
    _, same = stressed(f"--celery-stress=5:{seed}", *arguments)
    assert ran == same
    assert ran[3:] != ["0", "1", "2"] * 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("elsewhere", "pool"),
    [(["-n1"], "solo"), (["--celery-launch=inprocess", "--celery-concurrency=1"], "gevent")],
    ids=["xdist", "host"],
)
def test_nodes_of_xdist_and_hosts_use_the_seed_that_is_printed(stressed, elsewhere, pool):
    arguments = (f"--celery-pools={pool}", "-k", "test_wait", *elsewhere)
    done, there = stressed("--celery-stress=5", *arguments)
    (seed,) = re.findall(r"celery stress: 5:(\d+) \(--celery-stress\)", done.output)
    _, again = stressed(f"--celery-stress=5:{seed}", *arguments)
    assert there == again


@pytest.mark.slow
def test_what_a_task_publishes_is_published_by_its_repetitions(stressed):
    _, ran = stressed("--celery-stress=3", "--celery-pools=solo", "-k", "test_parent")
    assert ran == ["9"] * 4


def test_a_repetition_that_ends_otherwise_is_a_warning(stressed):
    done, _ = stressed("--celery-stress=2", "--celery-pools=solo", "-k", "test_once or test_nothing")
    assert set(done.outcomes().values()) == {"passed"}
    assert "WARN stress-differs: proj.once under solo: ended as SUCCESS when the test sent it, and 2" in done.output
    assert "FileExistsError" in done.output


@pytest.mark.parametrize("value", ["1", "-3", "many", "2.5"])
def test_a_wrong_number_is_refused(stressed, value):
    done, _ = stressed(f"--celery-stress={value}")
    assert done.status == 4
    assert f"--celery-stress: '{value}' is not valid. Valid: a whole number above 1, off" in done.output
