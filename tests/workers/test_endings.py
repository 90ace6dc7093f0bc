"""Nothing is left behind, however a run ends."""

import os
import signal

import pytest

APP = """
import time
from celery import Celery

app = Celery("proj")

@app.task
def nap(seconds):
    time.sleep(seconds)
"""

SUITE = """
import pathlib
import pytest
from proj import nap

def test_quick(celery_pool_worker):
    celery_pool_worker.run(nap, 0)

def test_long(celery_pool_worker):
    result = nap.delay(60)
    pathlib.Path(f"running-{celery_pool_worker.pool}").touch()
    result.get(timeout=60)

def test_never(celery_pool_worker):
    pathlib.Path("never").touch()
"""


@pytest.fixture
def busy(project, until):
    """A run in the middle of a test, whose task would take a minute more."""
    project.write(proj=APP, test_it=SUITE)
    process = project.start("--celery-pools=prefork,gevent", "--celery-app=proj:app")
    assert until(lambda: list(project.path.glob("running-*"))), project.output()
    assert project.remains()
    yield process
    process.kill()


def ended(process):
    return process.wait(20)


def test_after_ctrl_c_nothing_is_left(project, busy):
    os.kill(busy.pid, signal.SIGINT)
    assert ended(busy) == 2
    assert not project.remains()


def test_after_ctrl_c_of_the_whole_process_group_nothing_is_left(project, busy):
    os.killpg(busy.pid, signal.SIGINT)
    assert ended(busy) == 2
    assert not project.remains()


def test_an_impatient_second_ctrl_c_leaves_nothing_either(project, busy, until):
    os.kill(busy.pid, signal.SIGINT)
    os.kill(busy.pid, signal.SIGINT)
    ended(busy)
    assert until(lambda: not project.remains()), project.remains()


def test_after_sigterm_nothing_is_left(project, busy, until):
    os.kill(busy.pid, signal.SIGTERM)
    ended(busy)
    assert until(lambda: not project.remains()), project.remains()


def test_after_sigkill_the_workers_and_the_server_notice(project, busy, until):
    os.kill(busy.pid, signal.SIGKILL)
    ended(busy)
    assert until(lambda: not project.remains()), project.remains()


def test_after_sigkill_of_the_whole_process_group_nothing_is_left(project, busy, until):
    os.killpg(busy.pid, signal.SIGKILL)
    ended(busy)
    assert until(lambda: not project.remains()), project.remains()


def test_the_first_failure_ends_a_run_with_x(project):
    project.write(
        proj=APP, test_it="from proj import nap\n\ndef test_bad(celery_pool_worker):\n    assert nap.delay() == 1\n"
    )
    run = project.run("--celery-pools=all", "--celery-app=proj:app", "-x")
    assert len(run.outcomes()) == 1
    assert not project.remains()


def test_a_node_of_xdist_that_crashes_leaves_nothing(project, until):
    crash = "import os\n\ndef test_crash(celery_pool_worker):\n    os._exit(3)\n"
    project.write(proj=APP, test_it=crash)
    run = project.run("--celery-pools=solo", "--celery-app=proj:app", "-n1", "--max-worker-restart=0")
    assert "crashed" in run.output
    assert until(lambda: not project.remains()), project.remains()


def test_a_worker_that_ignores_the_request_to_stop_is_killed(project):
    stubborn = """
        import signal
        from celery.signals import worker_ready
        from proj import nap

        def test_it(celery_pool_worker):
            celery_pool_worker.kill(signal.SIGSTOP)
    """
    project.write(proj=APP, test_it=stubborn)
    run = project.run("--celery-pools=solo,gevent", "--celery-app=proj:app")
    assert run.status == 0, run.output
    assert run.seconds < 30
    assert not project.remains()


def test_two_runs_side_by_side_do_not_meet(project, tmp_path):
    from_one = (
        "from proj import nap\n\ndef test_it(celery_pool_worker):\n    celery_pool_worker.map(nap, [0.01] * 20)\n"
    )
    project.write(proj=APP, test_it=from_one * 1)
    first = project.start("--celery-pools=solo,threads", "--celery-app=proj:app")
    second = project.start("--celery-pools=threads,solo", "--celery-app=proj:app")
    assert [ended(first), ended(second)] == [0, 0]
    assert not project.remains()
