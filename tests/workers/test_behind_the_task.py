"""What raises behind a task's own code, where Celery itself has it: handlers of the task, errbacks, storing."""

import pytest

#: Celery refuses to accept pickle as root, as which containers run tests.
AS_ROOT_TOO = {"C_FORCE_ROOT": "1"}

APP = """
import os
from celery import Celery, Task

app = Celery("proj")
app.conf.update(accept_content=["json", "pickle"], result_extended=True)

class Told(Task):
    def on_failure(self, exc, task_id, args, kwargs, einfo):
        raise RuntimeError("nobody to tell")

@app.task(base=Told)
def pay():
    raise ValueError("declined")

@app.task
def remind(request):
    return "reminded"

@app.task
def charge():
    raise ValueError("declined")

@app.task(serializer="pickle")
def sort(words):
    return sorted(words)

@app.task
def ping():
    return os.getpid()
"""

SUITE = """
import pytest
from proj import charge, pay, ping, remind

left = []

@pytest.fixture(autouse=True)
def another_worker(celery_pool_worker):
    assert celery_pool_worker.pid not in left

@pytest.mark.celery_expect(state="FAILURE")
def test_handler(celery_pool_worker):
    with pytest.raises((ValueError, RuntimeError)):  # Celery stores the one, then the other
        pay.delay().get(timeout=10)
    left.append(celery_pool_worker.pid)

def test_after_the_handler(celery_pool_worker):
    assert ping.delay().get(timeout=10)

@pytest.mark.celery_expect(state="FAILURE")
def test_errback(celery_pool_worker):
    with pytest.raises((ValueError, TypeError)):
        charge.apply_async(link_error=remind.s(1, 2)).get(timeout=10)
    left.append(celery_pool_worker.pid)

def test_after_the_errback(celery_pool_worker):
    assert ping.delay().get(timeout=10)
"""

LOST = """
from proj import sort

def test_words(celery_pool_worker):
    sort.delay({"b", "a"}).get(timeout=3)
"""


@pytest.mark.gate("solo")
@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_its_caller_hears_and_the_next_test_has_another_worker(project, pool):
    run = project.write(proj=APP, test_it=SUITE).run(
        "--celery-app=proj:app", f"--celery-pools={pool}", environment=AS_ROOT_TOO
    )
    assert set(run.outcomes().values()) == {"passed"}, run.output
    assert len(run.outcomes()) == 4
    assert "celery findings" not in run.output


@pytest.mark.gate("prefork-started", "threads-ended")
@pytest.mark.parametrize("stored", ["started", "ended"])
@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_what_cannot_be_stored_is_told_under_every_pool(project, pool, stored):
    app = APP + f"\napp.conf.task_track_started = {stored == 'started'}\n"
    run = project.write(proj=app, test_it=LOST).run(
        "--celery-app=proj:app", f"--celery-pools={pool}", environment=AS_ROOT_TOO
    )
    assert "task-lost: proj.sort under " + pool in run.output
    assert "can be stored in the result backend, under any pool" in " ".join(run.output.split())
    assert f"the {pool} pool told nobody, and whoever waits for the result waits for ever" in run.output  # at once
    assert set(run.outcomes().values()) == {"failed"}, run.output


UNREADABLE = """
from celery import Celery

app = Celery("proj")

class UnreadableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__

@app.task
def refuse():
    raise UnreadableError
"""


@pytest.mark.gate("prefork", "gevent")
@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_an_exception_without_a_text_switches_no_detector_off(project, pool):
    project.write(
        proj=UNREADABLE,
        test_it="""
            import pytest
            from proj import refuse

            @pytest.mark.celery_expect(state="FAILURE")
            def test_refuse(celery_pool_worker):
                celery_pool_worker.submit(refuse)
        """,
    )
    run = project.run("--celery-app=proj:app", f"--celery-pools={pool}")
    assert run.status == 0, run.output
    assert "agent failed" not in run.output
