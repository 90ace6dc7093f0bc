"""What tests do with tasks works under every pool: one run of one suite, looked at from all sides."""

import pytest

from pytest_celerypool.pools import POOLS

APP = """
import os
import time
from celery import Celery
from kombu import Queue

app = Celery("proj", broker="redis://localhost:1/0", backend="redis://localhost:1/0")
app.conf.update(
    task_routes={"proj.routed": {"queue": "static"}},
    task_queues=[Queue("celery"), Queue("listed")],
    worker_pool="threads",
    worker_concurrency=7,
    worker_autoscaler="no.such:Autoscaler",
    broker_read_url="redis://localhost:1/1",
    broker_write_url="redis://localhost:1/2",
    broker_use_ssl={"ssl_cert_reqs": 0},
    redis_backend_use_ssl={"ssl_cert_reqs": 0},
    broker_transport_options={"socket_timeout": 1, "master_name": "none"},
    worker_state_db="state.db",
)

@app.task
def add(x, y):
    return x + y

@app.task
def total(numbers):
    return sum(numbers)

@app.task(bind=True)
def where(self):
    return [os.getpid(), self.request.delivery_info["routing_key"]]

@app.task
def routed():
    return "routed"

@app.task(bind=True, max_retries=2, default_retry_delay=0)
def third_time(self):
    if self.request.retries < 2:
        raise self.retry(exc=OSError("not yet"))
    return self.request.retries

@app.task(ignore_result=True)
def silent(fail=False):
    if fail:
        raise LookupError("nothing there")

@app.task
def parent():
    add.delay(1, 2)

@app.task(bind=True)
def replaced(self):
    raise self.replace(add.s(20, 2))

@app.task
def nap(seconds):
    time.sleep(seconds)

@app.task
def on_error(request, exc, traceback):
    return None

@app.task
def environment(name):
    return os.environ.get(name)

@app.task
def maps_its_trace():
    with open("/proc/self/maps") as file:
        return ".tape" in file.read()

@app.task
def takes(timeout):
    return timeout

@app.task(bind=True)
def applies(self, times, **options):
    if times:
        applies.apply((times - 1,), **options)
    time.sleep(0.03)
"""

SUITE = """
import os
import signal
import pytest
from celery import chain, chord, group
from proj import *

def test_delay_and_get(celery_pool_worker):
    assert add.delay(1, 2).get() == 3

def test_run(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, y=2) == 3

def test_run_signature(celery_pool_worker):
    assert celery_pool_worker.run(add.s(1), 2) == 3

def test_run_by_name(celery_pool_worker):
    assert celery_pool_worker.run("proj.add", 1, 2) == 3

def test_send_task(celery_pool_worker):
    assert app.send_task("proj.add", (1, 2)).get() == 3

def test_group(celery_pool_worker):
    assert group(add.s(n, n) for n in range(3)).delay().get() == [0, 2, 4]

def test_group_join(celery_pool_worker):
    assert group(add.s(n, n) for n in range(3)).delay().join() == [0, 2, 4]

def test_run_group(celery_pool_worker):
    assert celery_pool_worker.run(group(add.s(n, n) for n in range(3))) == [0, 2, 4]

def test_chain(celery_pool_worker):
    assert celery_pool_worker.run(chain(add.s(1, 2), add.s(3), add.s(4))) == 10

def test_chord(celery_pool_worker):
    assert celery_pool_worker.run(chord([add.s(1, 1), add.s(2, 2)], total.s())) == 6

def test_link(celery_pool_worker):
    add.apply_async((1, 2), link=add.s(3))
    celery_pool_worker.drain()
    assert [span.state for span in celery_pool_worker.spans] == ["SUCCESS", "SUCCESS"]

def test_starmap(celery_pool_worker):
    assert celery_pool_worker.run(add.starmap([(1, 2), (3, 4)])) == [3, 7]

def test_static_route(celery_pool_worker):
    # Consumed from the start, not only once the test publishes to it.
    active = app.control.inspect([celery_pool_worker.hostname], timeout=5, limit=1).active_queues()
    assert {queue["name"] for queue in active[celery_pool_worker.hostname]} >= {"celery", "listed", "static"}
    assert celery_pool_worker.run(routed) == "routed"

def test_listed_queue(celery_pool_worker):
    assert where.apply_async(queue="listed").get()[1] == "listed"

def test_queue_named_at_publication(celery_pool_worker):
    assert where.apply_async(queue="new").get()[1] == "new"

def test_countdown(celery_pool_worker):
    assert add.apply_async((1, 2), countdown=0.3).get() == 3
    (span,) = celery_pool_worker.spans
    assert span.queued >= 0.25

@pytest.mark.celery_expect(state="SUCCESS", retries=2, executions=1)
def test_retries(celery_pool_worker):
    assert third_time.delay().get() == 2
    celery_pool_worker.drain()
    assert [span.state for span in celery_pool_worker.spans] == ["RETRY", "RETRY", "SUCCESS"]

def test_replace(celery_pool_worker):
    assert celery_pool_worker.run(replaced) == 22
    assert [span.state for span in celery_pool_worker.spans] == ["IGNORED", "SUCCESS"]

def test_ignored_result_is_waited_for(celery_pool_worker):
    assert celery_pool_worker.run(silent) is None

def test_ignored_failure_is_raised(celery_pool_worker):
    with pytest.raises(LookupError, match="nothing there"):
        celery_pool_worker.run(silent, fail=True)

def test_exception_of_the_task(celery_pool_worker):
    with pytest.raises(TypeError):
        celery_pool_worker.run(add, 1, "x")

def test_map(celery_pool_worker):
    assert celery_pool_worker.map(where, []) == []
    assert len(celery_pool_worker.map(total, [[1], [2]])) == 2

def test_submit_gives_a_result(celery_pool_worker):
    assert celery_pool_worker.submit(add, 1, 2).get() == 3

def test_drain_waits_for_children(celery_pool_worker):
    parent.delay()
    celery_pool_worker.drain()
    assert [span.task for span in celery_pool_worker.spans] == ["proj.parent", "proj.add"]

def test_a_task_that_applies_itself_is_one_execution_to_its_end(celery_pool_worker):
    celery_pool_worker.run(applies, 2)
    (span,) = celery_pool_worker.spans
    assert span.runtime > 0.08 and span.cpu is not None

def test_also_if_that_has_the_same_id(celery_pool_worker):
    celery_pool_worker.submit(applies.s(1, task_id="same").set(task_id="same"))
    celery_pool_worker.drain()
    (span,) = celery_pool_worker.spans
    assert span.runtime > 0.05 and span.cpu is not None

def test_marker_without_fixture():
    pass

@pytest.mark.celery_expect
def test_marked_test_has_a_worker():
    add.delay(1, 2)

def test_handle(celery_pool_worker, celery_pool):
    worker = celery_pool_worker
    assert (worker.pool, worker.launch, worker.app) == (celery_pool, os.environ["LAUNCH"], app)
    assert worker.pool.name == str(celery_pool) in repr(worker)
    slots = {"prefork": 2, "solo": 1, "threads": 8, "gevent": 100, "eventlet": 100}
    assert worker.concurrency == slots[str(celery_pool)]
    assert worker.hostname in app.control.inspect(timeout=5, limit=1).ping()
    pid, _ = worker.run(where)
    assert (pid == worker.pid) is not celery_pool.forks
    assert (os.getpid() == worker.pid) is (worker.launch == "inprocess")

def test_span(celery_pool_worker):
    celery_pool_worker.run(nap, 0.05)
    (span,) = celery_pool_worker.spans
    assert (span.task, span.args, span.kwargs, span.state, span.retries) == ("proj.nap", (0.05,), {}, "SUCCESS", 0)
    assert span.pool == str(celery_pool_worker.pool)
    assert "test_span[" in span.test
    assert span.published <= span.received <= span.started <= span.ended
    assert 0.04 < span.runtime <= span.total
    assert span.queued == pytest.approx(span.total - span.runtime)
    assert 0 <= span.cpu - (span.collected or 0) < 0.04
    assert (span.hold is not None) == celery_pool_worker.pool.green
    assert span.pid and span.slot and span.exception is None

def test_spans_and_log_are_of_this_test_alone(celery_pool_worker):
    assert celery_pool_worker.spans == []
    assert "proj." not in celery_pool_worker.log
    celery_pool_worker.run(add, 1, 2)
    celery_pool_worker.drain()
    assert len(celery_pool_worker.spans) == 1
    assert "proj.add" in celery_pool_worker.log

def test_restart_keeps_what_is_queued(celery_pool_worker):
    before = celery_pool_worker.pid
    if celery_pool_worker.launch == "subprocess":
        celery_pool_worker.kill()
    else:
        celery_pool_worker.stop()
    result = add.delay(2, 2)
    celery_pool_worker.restart()
    assert result.get() == 4
    assert (celery_pool_worker.pid != before) is (celery_pool_worker.launch == "subprocess")

def test_stop(celery_pool_worker):
    celery_pool_worker.stop()

def test_after_a_test_that_stopped_it_there_is_another(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 2) == 3

def test_revoke_is_answered_by_this_worker_alone(celery_pool_worker):
    result = add.apply_async((1, 2), countdown=60)
    (reply,) = app.control.revoke(result.id, reply=True, timeout=1)
    assert reply[celery_pool_worker.hostname]["ok"]
    revoked = app.control.inspect([celery_pool_worker.hostname], timeout=5, limit=1).revoked()
    assert result.id in revoked[celery_pool_worker.hostname]

@pytest.mark.celery_pools(fresh=True)
def test_environment_is_that_of_the_session(celery_pool_worker):
    assert celery_pool_worker.run(environment, "SET_BY_A_SESSION_FIXTURE") == "yes"

@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="/proc")
def test_records_are_copied_where_one_process_has_all_tasks(celery_pool_worker, celery_pool):
    copied = os.environ["LAUNCH"] == "subprocess" and not celery_pool.forks
    assert celery_pool_worker.run(maps_its_trace) is copied

@pytest.mark.celery_pools(options=("-Q", "only"))
def test_options_of_the_command_line(celery_pool_worker):
    assert where.apply_async(queue="only").get()[1] == "only"

@pytest.mark.celery_pools(options="--max-tasks-per-child 1", concurrency=1)
def test_options_as_one_text(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 2) == 3

def test_timeout_for_the_task_itself(celery_pool_worker):
    assert celery_pool_worker.run(takes.s(timeout=3)) == 3
    assert celery_pool_worker.run(takes.s(timeout=3), timeout=5) == 3
    with pytest.raises(TypeError, match="says? which is meant|Say which is meant"):
        celery_pool_worker.run(takes, timeout=3)

@pytest.mark.celery_budget(runtime="5s", queued="5s", total="5s", cpu="4s", hold="3s", memory="100MiB", throughput=0.1,
                           overlap=1, makespan="5s")
def test_budget(celery_pool_worker):
    celery_pool_worker.map(nap, [0.01, 0.01])

@pytest.mark.celery_expect(agree=True)
def test_pools_agree():
    add.delay(1, 2)
"""

CONFTEST = """
import os
import pytest

@pytest.fixture(scope="session", autouse=True)
def environment_of_the_session():
    os.environ["SET_BY_A_SESSION_FIXTURE"] = "yes"
    yield
    from proj import app
    # Restored after the last test of a pool: the application talks to its own broker again.
    assert app.conf.broker_url == "redis://localhost:1/0"
    assert app.conf.result_backend == "redis://localhost:1/0"
    assert app.conf.broker_read_url == "redis://localhost:1/1"
    assert "task_always_eager" not in app.conf.changes
"""

#: Warnings are errors, but for what Celery before 5.7 calls of redis-py 8.
WARNINGS = ("-Werror", "-Wignore:Call to deprecated:DeprecationWarning")

TESTS = [line[4:].partition("(")[0] for line in SUITE.splitlines() if line.startswith("def test_")]
WITHOUT = {"test_marker_without_fixture"}


@pytest.fixture(scope="module", params=["subprocess", pytest.param("inprocess", marks=pytest.mark.slow)])
def run(request, shared_project):
    """The suite under all pools."""
    shared_project.write(proj=APP, conftest=CONFTEST, test_it=SUITE)
    return shared_project.run(
        "--celery-pools=all",
        "--celery-app=proj:app",
        "--celery-concurrency=prefork=2",
        f"--celery-launch={request.param}",
        *WARNINGS,
        environment={"LAUNCH": request.param},
    )


@pytest.mark.parametrize("pool", [pool.name for pool in POOLS])
@pytest.mark.parametrize("test", [test for test in TESTS if test not in WITHOUT])
def test_passes(run, test, pool):
    assert run.outcomes().get(f"{test}[{pool}]") == "passed", run.failure(f"{test}[{pool}]")


def test_a_test_without_worker_runs_once(run):
    assert run.outcomes()["test_marker_without_fixture"] == "passed"


def test_the_run_is_green_without_warnings(run):
    assert run.status == 0, run.output
    assert "warning" not in run.output


def test_tests_of_one_pool_run_together(run):
    order = [report["nodeid"].rpartition("[")[2] for report in run.reports if report["when"] == "call"]
    changes = [name for name, before in zip(order, [None, *order], strict=False) if name != before]
    assert changes[:5] == ["prefork]", "solo]", "threads]", "gevent]", "eventlet]"]


def test_the_applications_own_pool_and_state_file_decide_nothing(run, shared_project):
    # Which pool ran is seen in test_handle: only prefork has another process for its tasks.
    assert {run.outcomes()[f"test_handle[{pool.name}]"] for pool in POOLS} == {"passed"}
    assert not list(shared_project.path.glob("state.db*"))


def test_figures_are_user_properties(run):
    (runtime,) = run.property("test_span[gevent]", "celery_runtime_max_s")
    assert 0.04 < runtime < 5
    assert run.property("test_span[gevent]", "celery_pool") == ["gevent"]


def test_nothing_is_left(run, shared_project):
    assert not shared_project.remains()
