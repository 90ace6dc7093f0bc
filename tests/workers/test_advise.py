"""``--celery-advise`` on a real project: what somebody who knows Celery would say."""

import pytest

APP = """
import ctypes, hashlib, time
from celery import Celery

app = Celery("mix")
libc = ctypes.CDLL(None)

@app.task
def digest(n):
    value = b""
    for _ in range(30_000):
        value = hashlib.sha256(value).digest()

@app.task
def fetch(n):
    time.sleep(0.1)

@app.task
def drive(n):
    libc.usleep(70_000)

@app.task(soft_time_limit=5)
def report(n):
    time.sleep(0.02)
"""

SUITE = """
import mix

def test_digest(celery_pool_worker):
    celery_pool_worker.map(mix.digest, range(20))

def test_fetch(celery_pool_worker):
    celery_pool_worker.map(mix.fetch, range(20))

def test_drive(celery_pool_worker):
    celery_pool_worker.map(mix.drive, range(20))

def test_report(celery_pool_worker):
    celery_pool_worker.run(mix.report, 1)
"""

ONE = """
import mix

def test_fetch(celery_pool_worker):
    celery_pool_worker.run(mix.fetch, 1)
"""


def chosen(output):
    """The line of the recommendation of each task."""
    found, task = {}, None
    for line in output.partition("= celery advice =")[2].splitlines():
        if line.startswith("mix."):
            task = line.partition(":")[0]
        elif line.startswith("  => "):
            found[task] = line.removeprefix("  => ").partition(":")[0]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [[], ["-n2"]], ids=["here", "xdist"])
def test_each_kind_of_task_gets_the_pool_that_suits_it(project, elsewhere):
    """Computing to prefork, waiting to greenlets, what holds the hub to threads, a soft time limit to prefork."""
    project.write(mix=APP, test_it=SUITE)
    concurrency = "--celery-concurrency=prefork=2"
    run = project.run("--celery-app=mix:app", "--celery-pools=all", "--celery-advise", concurrency, *elsewhere)
    found = chosen(run.output)
    green = found.pop("mix.fetch").split()[0]  # either can win
    assert green in ("gevent", "eventlet"), run.output
    assert found == {
        "mix.digest": "prefork with 2 slots",
        "mix.drive": "threads with 8 slots",
        "mix.report": "prefork with 2 slots",
    }, run.output
    assert '    "mix.digest": {"queue": "computing"},' in run.output
    assert "celery -A mix:app worker -P prefork -c 2 -Q computing -n computing@%h" in run.output
    assert f"celery -A mix:app worker -P {green} -c 100 -Q waiting-{green} -n waiting-{green}@%h" in run.output


@pytest.mark.slow
def test_one_run_is_not_enough_and_the_stress_pass_makes_it_enough(project):
    """The answer says how to get it."""
    project.write(mix=APP, test_it=ONE)
    arguments = ("--celery-app=mix:app", "--celery-pools=solo,gevent", "--celery-advise")
    run = project.run(*arguments)
    assert "celery advice: at the end of the run (--celery-advise)" in run.output
    assert chosen(run.output) == {"mix.fetch": "not enough evidence"}
    assert "--celery-stress=20" in run.output
    assert "celery -A" not in run.output
    assert chosen(project.run(*arguments, "--celery-stress=20").output) == {"mix.fetch": "gevent with 100 slots"}


@pytest.mark.slow
def test_what_hosts_measure_is_advised_on(project):
    project.write(mix=APP, test_it=SUITE)
    arguments = ("--celery-pools=solo,gevent", "--celery-launch=inprocess", "--celery-advise", "-k", "fetch")
    assert chosen(project.run("--celery-app=mix:app", *arguments).output) == {"mix.fetch": "gevent with 100 slots"}


def test_nothing_is_advised_unless_it_is_asked_for(project):
    project.write(mix=APP, test_it=ONE)
    assert "celery advice" not in project.run("--celery-app=mix:app", "--celery-pools=solo").output


def test_a_run_without_a_worker_says_that_there_is_nothing_to_advise_on(project):
    """Who asks gets an answer."""
    project.write(test_it="def test_plain(): pass")
    assert "no task of yours ran under a worker of this run" in project.run("--celery-advise").output
