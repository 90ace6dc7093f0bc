"""When something goes wrong, the failure says what, soon: one run of one suite in which all tests fail."""

import importlib
import re

import pytest

APP = """
import os
import signal
import time
from celery import Celery, group
from celery.exceptions import Ignore

app = Celery("proj", broker="redis://localhost:1/0")

@app.task
def add(x, y):
    return x + y

@app.task
def nap(seconds):
    time.sleep(seconds)

@app.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)

@app.task
def leave():
    raise SystemExit(3)

@app.task(bind=True, max_retries=1, default_retry_delay=0)
def retried(self):
    raise self.retry(exc=ValueError("again"))

@app.task
def ignored():
    raise Ignore()

@app.task(bind=True)
def ignored_with_a_state(self):
    self.update_state(state="HALTED", meta={"at": 3})
    raise Ignore()

@app.task(bind=True)
def ignored_with_an_end(self):
    self.update_state(state="FAILURE", meta={"exc_type": "KeyError", "exc_message": ["x"], "exc_module": "builtins"})
    raise Ignore()

@app.task
def end(task_id):
    time.sleep(2)
    app.backend.mark_as_done(task_id, "ended elsewhere")

@app.task(bind=True)
def ended_by_another(self):
    end.delay(self.request.id)
    raise Ignore()

@app.task(bind=True)
def replaced_by_a_group(self):
    raise self.replace(group(napped.s(0.3), napped.s(1.5)))

@app.task
def napped(seconds):
    time.sleep(seconds)
    return seconds

@app.task(time_limit=1)
def limited():
    for _ in range(300):
        time.sleep(0.1)
"""

SUITE = """
import os
import pathlib
import signal
import time
import celery.exceptions
import pytest
from celery import group
from proj import *

# What the other pools do differently has marks of its own.
pytestmark = pytest.mark.celery_pools("prefork", "gevent")
every_pool = pytest.mark.celery_pools("prefork", "solo", "threads", "gevent")

def running(worker, count=1):
    deadline = time.monotonic() + 20
    while sum(span.started is not None for span in worker.spans) < count and time.monotonic() < deadline:
        time.sleep(0.01)

@every_pool
def test_slot_dies(celery_pool_worker):
    celery_pool_worker.run(die)

@every_pool
def test_task_exits(celery_pool_worker):
    celery_pool_worker.run(leave)

@every_pool
def test_task_exits_while_the_test_waits(celery_pool_worker):
    leave.delay().get()

@every_pool
@pytest.mark.celery_expect
def test_task_exits_unheard():
    leave.delay()

@every_pool
def test_no_result_in_time(celery_pool_worker):
    celery_pool_worker.run(nap, 60, timeout=0.5)

def test_own_get_times_out(celery_pool_worker):
    nap.delay(60).get(timeout=0.5)

def test_queued_behind_others(celery_pool_worker):
    for _ in range(celery_pool_worker.concurrency):
        nap.delay(60)
    celery_pool_worker.run(add, 1, 2, timeout=0.7)

def test_waits_for_its_eta(celery_pool_worker):
    add.apply_async((1, 2), countdown=3600).get(timeout=0.5)

def test_eta_beyond_any_get(celery_pool_worker):
    add.apply_async((1, 2), countdown=3600).get()

def test_eta_beyond_the_timeout_of_a_join(celery_pool_worker):
    group(add.s(1, 2), add.s(1, 2).set(countdown=60)).delay().join(timeout=30)

def test_eta_beyond_a_run(celery_pool_worker):
    celery_pool_worker.run(add.s(1, 2).set(countdown=3600))

def test_refused_for_its_content(celery_pool_worker):
    add.apply_async((1, 2), serializer="pickle").get()

def test_ignored(celery_pool_worker):
    ignored.delay().get()

def test_ignored_with_a_state_of_its_own(celery_pool_worker):
    ignored_with_a_state.delay().get()

def test_ignored_in_a_group(celery_pool_worker):
    group(add.s(1, 2), ignored.s()).delay().get()

def test_ignored_before_the_rest_of_its_chain(celery_pool_worker):
    (ignored.si() | add.si(1, 2)).delay().get()

def test_ignored_in_a_chord(celery_pool_worker):
    (group(add.si(1, 2), ignored.si()) | add.si(1, 2)).delay().get()

def test_waits_that_are_not_in_vain(celery_pool_worker):
    with pytest.raises(KeyError):
        ignored_with_an_end.delay().get()
    assert ended_by_another.delay().get() == "ended elsewhere"
    assert replaced_by_a_group.delay().get() == [0.3, 1.5]
    assert celery_pool_worker.run(replaced_by_a_group) == [0.3, 1.5]
    assert add.apply_async((1, 2), countdown=3).get() == 3

def test_expected_to_be_in_vain(celery_pool_worker):
    with pytest.raises(celery.exceptions.TimeoutError):
        ignored.delay().get(timeout=20)
    with pytest.raises(celery.exceptions.TimeoutError):
        add.apply_async((1, 2), countdown=60).get(timeout=20)

@pytest.mark.celery_expect
def test_expects_what_waits_for_its_eta():
    add.apply_async((1, 2), countdown=3600)

def test_drain_cannot_succeed(celery_pool_worker):
    add.apply_async((1, 2), countdown=3600)
    celery_pool_worker.drain()

@pytest.mark.celery_pools(options=("-Q", "only"))
def test_nobody_consumes(celery_pool_worker):
    add.delay(1, 2).get()

@pytest.mark.celery_pools(options=("-Q", "only"))
@pytest.mark.celery_expect
def test_expects_what_nobody_consumes():
    add.delay(1, 2)

def test_unknown_task(celery_pool_worker):
    app.send_task("proj.ad").get()

def test_unknown_task_unheard(celery_pool_worker):
    app.send_task("proj.ad")

def test_task_in_a_function(celery_pool_worker):
    @app.task
    def inner():
        pass
    celery_pool_worker.run(inner)

@every_pool
def test_worker_killed_in_get(celery_pool_worker):
    result = nap.delay(60)
    running(celery_pool_worker)
    os.kill(celery_pool_worker.pid, signal.SIGKILL)
    result.get()

def test_worker_killed_in_group_get(celery_pool_worker):
    result = group(nap.s(60), add.s(1, 2)).delay()
    running(celery_pool_worker)
    os.kill(celery_pool_worker.pid, signal.SIGKILL)
    result.get()

def test_worker_killed_in_join(celery_pool_worker):
    result = group(nap.s(60), add.s(1, 2)).delay()
    running(celery_pool_worker)
    os.kill(celery_pool_worker.pid, signal.SIGKILL)
    result.join()

def test_worker_killed_in_run(celery_pool_worker):
    import threading
    threading.Timer(0.3, os.kill, (celery_pool_worker.pid, signal.SIGKILL)).start()
    celery_pool_worker.run(nap, 60)

def test_worker_killed_after_the_last_call(celery_pool_worker):
    nap.delay(60)
    running(celery_pool_worker)
    os.kill(celery_pool_worker.pid, signal.SIGKILL)

@every_pool
def test_worker_stopped_by_a_signal(celery_pool_worker):
    os.kill(celery_pool_worker.pid, signal.SIGSTOP)
    add.delay(1, 2).get(timeout=0.5)

def test_worker_shut_down_by_the_test(celery_pool_worker):
    app.control.shutdown()
    for _ in range(100):
        celery_pool_worker.run(nap, 0.1)

@pytest.mark.celery_expect(retries=0)
@pytest.mark.celery_expect(state="SUCCESS")
def test_retried():
    retried.delay()

@pytest.mark.celery_expect(tasks="proj.ad")
def test_matches_nothing():
    add.delay(1, 2)

@pytest.mark.celery_budget(runtime="1ms")
def test_over_budget():
    nap.delay(0.05)

@pytest.mark.celery_budget(overlap=2, makespan="100ms")
def test_too_little_at_once():
    nap.delay(0.2)

def test_eager_all_the_same(celery_pool_worker):
    app.conf.task_always_eager = True
    try:
        add.delay(1, 2)
    finally:
        app.conf.task_always_eager = False

def test_fails_itself(celery_pool_worker):
    add.delay(1, 2).get()
    assert False, "by itself"

@pytest.mark.celery_pools(options=("--no-such-option",))
def test_worker_refuses_its_options(celery_pool_worker):
    pass

@every_pool
@pytest.mark.celery_expect(state="FAILURE")
def test_hard_time_limit():
    limited.delay()

@pytest.mark.celery_pools(fresh=True)
def test_embedded_server_killed(celery_pool_worker):
    import psutil
    (server,) = [child for child in psutil.Process().children() if "server" in child.name()]
    server.kill()
    nap.delay(60).get()

@every_pool
def test_afterwards_all_is_well(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 2) == 3
"""

POOLS = ("prefork", "solo", "threads", "gevent")


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(proj=APP, test_it=SUITE)
    return shared_project.run(
        f"--celery-pools={','.join(POOLS)}",
        "--celery-app=proj:app",
        "--celery-timeout=7",
        "--celery-concurrency=prefork=2,threads=2,gevent=3",
        "--tb=short",
        timeout=400,
    )


#: Test, pools, and patterns of which each occurs in the failure.
ALL = ("prefork", "gevent")
WRONG = [
    ("test_slot_dies", ("prefork",), ["WorkerLostError", "SIGKILL"]),
    (
        "test_slot_dies",
        ("solo", "threads", "gevent"),
        [r"worker \(pid \d+\) was killed by SIGKILL", "The end of its log", "It had not ended: proj.die"],
    ),
    ("test_task_exits", ("prefork",), ["WorkerLostError.*exitcode 3"]),
    ("test_task_exits", ("solo",), [r"worker \(pid \d+\) exited with status \d|was lost \(SystemExit\(3\)\)"]),
    ("test_task_exits", ("threads", "gevent"), [r"was lost \(SystemExit\(3\)\)", "waits for ever"]),
    (
        "test_task_exits_while_the_test_waits",
        ("threads", "gevent"),
        [r"was lost \(SystemExit\(3\)\)", "waits for ever"],
    ),
    ("test_task_exits_unheard", ("threads", "gevent"), ["expected state=SUCCESS, found LOST", "SystemExit"]),
    ("test_no_result_in_time", POOLS, ["is running in", "where every slot is", "in nap"]),
    ("test_own_get_times_out", ALL, ["is running in", "where every slot is", "in nap"]),
    ("test_queued_behind_others", ("gevent",), [r"proj.add\S+ was received and waits for a free slot"]),
    (
        "test_queued_behind_others",
        ("prefork",),
        [r"proj.add\S+ was received and waits for a free slot \(2 of 2 are busy\)"],
    ),
    ("test_waits_for_its_eta", ALL, [r"waits for its ETA, \d{4}-"]),
    ("test_eta_beyond_any_get", ALL, [r"waits for its ETA, \d{4}-\S+, and the wait for its result would end before"]),
    ("test_eta_beyond_the_timeout_of_a_join", ALL, [r"TimeoutError: proj.add\S+ waits for its ETA", "longer timeout="]),
    ("test_eta_beyond_a_run", ALL, [r"waits for its ETA, \d{4}-"]),
    (
        "test_refused_for_its_content",
        ALL,
        [r"proj.add\S+ was refused by the worker for its content \(ContentDisallowed.*pickle", "it takes json"],
    ),
    ("test_ignored", ALL, [r"proj.ignored\S+ raised Ignore and left no result, its stored state is PENDING"]),
    ("test_ignored_with_a_state_of_its_own", ALL, ["raised Ignore and left no result, its stored state is HALTED"]),
    ("test_ignored_in_a_group", ALL, [r"proj.ignored\S+ raised Ignore and left no result"]),
    ("test_ignored_before_the_rest_of_its_chain", ALL, [r"proj.ignored\S+ raised Ignore and left no result"]),
    ("test_ignored_in_a_chord", ALL, [r"proj.ignored\S+ raised Ignore and left no result"]),
    ("test_expects_what_waits_for_its_eta", ALL, ["expected state=SUCCESS, not ended: it waits for its ETA"]),
    ("test_drain_cannot_succeed", ALL, ["waits for its ETA"]),
    (
        "test_nobody_consumes",
        ALL,
        [r"lies in the queue 'celery', which nobody consumes \(this worker consumes: only\)"],
    ),
    ("test_expects_what_nobody_consumes", ALL, ["not ended: it lies in the queue 'celery', which nobody consumes"]),
    ("test_unknown_task", ALL, ["is not registered in the", "which knows proj.add", r"include=\["]),
    ("test_unknown_task_unheard", ALL, ["is not registered in the", "which knows proj.add"]),
    ("test_task_in_a_function", ALL, ["defined inside a function", r"--celery-app=MODULE:FACTORY\(\)"]),
    ("test_worker_killed_in_get", POOLS, ["was killed by SIGKILL", "It had not ended: proj.nap"]),
    ("test_worker_killed_in_group_get", ALL, ["was killed by SIGKILL", "It had not ended: .*proj.nap"]),
    ("test_worker_killed_in_join", ALL, ["was killed by SIGKILL", "It had not ended: .*proj.nap"]),
    ("test_worker_killed_in_run", ALL, ["was killed by SIGKILL", "It had not ended: proj.nap"]),
    ("test_worker_killed_after_the_last_call", ALL, ["was killed by SIGKILL", "It had not ended: proj.nap"]),
    (
        "test_worker_stopped_by_a_signal",
        POOLS,
        [r"not received yet: the \w+ worker \(pid \d+\) is stopped, as by SIGSTOP, and answers nothing"],
    ),
    ("test_worker_shut_down_by_the_test", ALL, [r"worker \(pid \d+\) exited with status 0"]),
    (
        "test_retried",
        ALL,
        ["expected retries=0, found 1", "expected state=SUCCESS, found FAILURE", r"ValueError\('again'\)"],
    ),
    ("test_matches_nothing", ALL, ["no task of the test matches", "Did you mean 'proj.add'"]),
    (
        "test_over_budget",
        ALL,
        [r"proj.nap\[\w+\]\(0.05\) under \w+: runtime \d.* is above the limit of 1ms", "queued +total"],
    ),
    ("test_too_little_at_once", ALL, ["overlap 1 is below the limit of 2", "makespan .* is above the limit of 100ms"]),
    ("test_eager_all_the_same", ALL, ["ran eagerly", "task_always_eager"]),
    ("test_fails_itself", ALL, ["by itself", r"Celery worker log \(\w+, this test only\)", "proj.add.* succeeded"]),
    ("test_worker_refuses_its_options", ALL, ["before it was ready", "No such option"]),
    ("test_hard_time_limit", ("solo", "threads"), ["expected state=FAILURE, not ended: it is running"]),
    (
        "test_embedded_server_killed",
        ALL,
        ["embedded server, broker and result backend of this run, was killed"],
    ),
]

CASES = [
    pytest.param(test, pool, patterns, id=f"{test[5:]}-{pool}") for test, pools, patterns in WRONG for pool in pools
]


@pytest.mark.parametrize(("test", "pool", "patterns"), CASES)
def test_the_failure_says_what_is_wrong(run, test, pool, patterns):
    text = run.failure(f"{test}[{pool}]")
    assert not [pattern for pattern in patterns if not re.search(pattern, text)], text


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_test_breaks_does_not_reach_the_next(run, pool):
    assert run.outcomes()[f"test_afterwards_all_is_well[{pool}]"] == "passed"


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_a_hard_time_limit_is_a_failure_where_the_pool_enforces_it(run, pool):
    assert run.outcomes()[f"test_hard_time_limit[{pool}]"] == "passed"


@pytest.mark.parametrize("pool", ALL)
def test_what_may_still_come_is_waited_for(run, pool):
    assert run.outcomes()[f"test_waits_that_are_not_in_vain[{pool}]"] == "passed"


@pytest.mark.parametrize("pool", ALL)
def test_a_test_may_expect_that_there_is_no_result_in_time(run, pool):
    """It passes as with Celery alone, only sooner: the waits are of 20 s each."""
    assert run.outcomes()[f"test_expected_to_be_in_vain[{pool}]"] == "passed"
    (call,) = _calls(run, "test_expected_to_be_in_vain", pool)
    assert call["seconds"] < 7


#: Failures that no timeout brings about must not take as long as one.
AT_ONCE = [
    (test, pool)
    for test, pools, _ in WRONG
    for pool in pools
    if "killed_in" in test
    or "unknown" in test
    or "exits" in test
    or "nobody" in test
    or "beyond" in test
    or "refused" in test
    or "ignored" in test
    or (test == "test_slot_dies" and pool != "prefork")  # which may look after five seconds only
]


@pytest.mark.parametrize(("test", "pool"), AT_ONCE, ids=lambda value: value.removeprefix("test_"))
def test_what_cannot_end_well_fails_within_about_a_second(run, test, pool):
    (call,) = _calls(run, test, pool)
    # The deadline is seven seconds, a test's own get() has six times that.
    assert call["seconds"] < 3.5


def _calls(run, test, pool):
    return [
        report for report in run.reports if report["nodeid"].endswith(f"::{test}[{pool}]") and report["when"] == "call"
    ]


def test_nothing_is_left(run, shared_project):
    assert not shared_project.remains()


HANGS_AT_IMPORT = """
import sys
import time
from celery import Celery

app = Celery("proj", broker="redis://localhost:1/0")

def connect():
    time.sleep(600)

if "worker" in sys.argv:
    connect()
"""


@pytest.mark.parametrize("name", [pytest.param("solo", marks=pytest.mark.slow), "gevent"])
def test_a_worker_that_never_gets_ready_says_where_it_is(pytester, monkeypatch, name):
    # Imported by name: pytester takes out of sys.modules what a run has imported.
    launch = importlib.import_module("pytest_celerypool.launch.subprocess")
    monkeypatch.setattr(launch, "START_TIMEOUT_S", 3.0)
    pytester.makepyfile(proj=HANGS_AT_IMPORT, test_it="def test_it(celery_pool_worker): pass\n")
    result = pytester.runpytest_inprocess("--celery-app=proj:app", f"--celery-pools={name}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"the {name} worker was not ready after 3 s, and logged nothing", "It was here:", "*proj.py*in connect*"]
    )
