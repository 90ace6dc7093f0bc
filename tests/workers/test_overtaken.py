"""A retry is published before it is stored that there will be one, so another slot can end the task before that."""

import pytest

APP = """
import time
from celery import Celery
from celery.backends.redis import RedisBackend

app = Celery("proj")

@app.task(bind=True, max_retries=1)
def overtaken(self):
    if not self.request.retries:
        raise self.retry(countdown=0)
    return "done"

store = RedisBackend._set_with_state

def store_in_turn(self, key, value, state):
    # Before it stores it looks whether SUCCESS is stored. One slot has looked, then the other one ends the task.
    if state == "RETRY":
        self.client.set(f"looked-{key}", state)
        wait_for(self, key, "SUCCESS")
        store(self, key, value, state)
    else:
        wait_for(self, f"looked-{key}", "RETRY")
        store(self, key, value, state)
        wait_for(self, key, "RETRY")

def wait_for(backend, key, state):
    deadline = time.monotonic() + 10
    while state not in str(backend.get(key)) and time.monotonic() < deadline:
        time.sleep(0.01)

RedisBackend._set_with_state = store_in_turn
"""

SUITE = """
from celery.exceptions import TimeoutError
from proj import app, overtaken

def test_result(celery_pool_worker):
    assert celery_pool_worker.run(overtaken) == "done"
    assert app.backend.get_state(celery_pool_worker.spans[-1].id) == "RETRY"

def test_no_result(celery_pool_worker, monkeypatch):
    def get(self, timeout, **options):
        # As of a backend that is asked, and does not send.
        raise TimeoutError
    monkeypatch.setattr(app.AsyncResult, "get", get)
    celery_pool_worker.run(overtaken)
"""


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(proj=APP, test_it=SUITE)
    return shared_project.run("--celery-pools=prefork", "--celery-app=proj:app", "--celery-concurrency=2")


def test_a_result_that_was_sent_before_it_was_overwritten_is_given(run):
    assert run.outcomes()["test_result[prefork]"] == "passed", run.output


def test_a_result_that_is_gone_is_not_taken_for_none(run):
    assert "ended as SUCCESS, and Celery then stored RETRY over that" in run.failure("test_no_result[prefork]")
