"""Workers of several pools and queues for one test: who ran what, and what is said when something is wrong."""

import os
import signal

import pytest

APP = """
import os
import signal
import time
from celery import Celery

app = Celery("proj", broker="redis://localhost:1/0")
app.conf.task_routes = {
    "proj.resize": {"queue": "cpu"},
    "proj.die": {"queue": "cpu"},
    "proj.fetch": {"queue": "io"},
    "proj.astray": {"queue": "nowhere"},
}

@app.task
def fetch(url):
    time.sleep(0.05)
    return f"<{url}>"

@app.task
def resize(data):
    return len(data)

@app.task
def die():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)

@app.task
def astray():
    pass

@app.task(bind=True, max_retries=1)
def moves(self):
    if not self.request.retries:
        raise self.retry(queue="cpu", countdown=0)
"""

CONFTEST = """
import pytest

@pytest.fixture
def cluster(celery_pool_cluster):
    return celery_pool_cluster({
        "cpu": dict(pool="prefork", queues=["cpu"], concurrency=1),
        "io": dict(pool="gevent", queues=["io", "more"], concurrency=20, options=["-O", "fair"]),
    })
"""

GOOD = """
import pytest
from celery import chain, chord
from proj import *

@pytest.mark.celery_expect(executions=1)
@pytest.mark.celery_expect(tasks="proj.resize", worker="cpu")
@pytest.mark.celery_expect(tasks="proj.fetch", worker="io")
def test_each_task_on_its_worker(cluster):
    assert cluster.run(fetch, "a") == "<a>"
    assert cluster["io"].run(resize, "ab") == 2
    assert cluster.map(fetch, "abc") == ["<a>", "<b>", "<c>"]
    assert [span.task for span in cluster["cpu"].spans] == ["proj.resize"]
    assert [span.task for span in cluster["io"].spans] == ["proj.fetch"] * 4
    assert {(span.worker, span.pool) for span in cluster.spans} == {("cpu", "prefork"), ("io", "gevent")}
    assert len(cluster.spans) == 5
    assert "proj.resize" in cluster["cpu"].log and "proj.fetch" not in cluster["cpu"].log

def test_a_mapping_of_handles(cluster):
    assert list(cluster) == ["cpu", "io"] and len(cluster) == 2
    cpu, io = cluster.values()
    assert (cpu.name, cpu.pool.name, cpu.concurrency) == ("cpu", "prefork", 1)
    assert (io.name, io.pool.name, io.concurrency) == ("io", "gevent", 20)
    assert cpu.pid != io.pid and cpu.hostname.startswith("cpu-") and io.hostname.startswith("io-")
    answers = cpu.app.control.inspect(destination=[io.hostname]).active_queues()
    assert {queue["name"] for queue in answers[io.hostname]} == {"io", "more"}
    with pytest.raises(KeyError, match="no worker 'cpx'. Its workers: cpu, io. Did you mean 'cpu'"):
        cluster["cpx"]

def test_a_chain_across_both(cluster):
    assert cluster.run(chain(fetch.s("a"), resize.s())) == 3
    assert [span.worker for span in cluster.spans] == ["io", "cpu"]
    assert all(span.queued is not None and span.total is not None for span in cluster.spans)

@pytest.mark.celery_expect
def test_drain_waits_for_both(cluster):
    (fetch.s("a") | resize.s()).delay()
    cluster["cpu"].drain()
    assert [span.state for span in cluster.spans] == ["SUCCESS", "SUCCESS"]

@pytest.mark.celery_expect(state="SUCCESS", retries=1)
def test_a_task_moves_from_one_worker_to_the_other(cluster):
    moves.apply_async(queue="io")
    cluster.drain()
    assert [(span.worker, span.state) for span in cluster.spans] == [("io", "RETRY"), ("cpu", "SUCCESS")]

@pytest.mark.celery_expect
def test_what_is_published_before_the_workers_start(celery_pool_cluster):
    results = [resize.delay("abc") for _ in range(20)]
    # The first is ready, and at work, long before the second.
    first, second = dict(pool="solo", queues=["cpu"]), dict(pool="gevent", queues=["io"])
    workers = celery_pool_cluster({"first": first, "second": second})
    assert [result.get() for result in results] == [3] * 20
    assert len(workers["first"].spans) == 20

def test_two_workers_of_one_queue(celery_pool_cluster):
    both = celery_pool_cluster({name: dict(pool="solo", queues=["io"]) for name in ("one", "two")})
    both.map(fetch, range(8))
    assert {span.worker for span in both.spans} == {"one", "two"}

def test_the_others_go_on_without_one_that_the_test_stopped(cluster):
    cluster["cpu"].stop()
    assert cluster.run(fetch, "a") == "<a>"
    with pytest.raises(Exception, match="in the queue 'cpu', which nobody consumes .cpu, which the test has ended, co"):
        resize.delay("a").get()
    cluster["cpu"].restart()
    cluster.drain()
    assert [span.worker for span in cluster.spans] == ["io", "cpu"]

@pytest.mark.celery_expect(tasks="proj.fetch", pools=["gevent"])
@pytest.mark.celery_expect(tasks="proj.nothing", pools=["threads"])
@pytest.mark.celery_budget(runtime="20s", pools=["gevent"], tasks="proj.fetch")
@pytest.mark.celery_budget(memory="500MiB", overlap=1)
def test_markers_narrow_to_pools_that_workers_have(cluster):
    cluster.run(chain(fetch.s("a"), resize.s()))

@pytest.mark.celery_expect
def test_pools_of_the_run(celery_pool, celery_pool_cluster):
    workers = celery_pool_cluster({"any": dict(pool=celery_pool, queues=["cpu"])})
    assert workers.run(resize, "ab") == 2
    assert [span.pool for span in workers.spans] == [str(celery_pool)]

@pytest.mark.celery_expect
@pytest.mark.celery_budget(runtime="20s")
def test_markers_start_no_other_worker(cluster):
    fetch.delay("a")
    assert len(cluster["io"].app.control.ping(timeout=1)) == 2
"""

WRONG = """
import pytest
from proj import *

@pytest.mark.celery_expect(tasks="proj.resize", worker="io")
def test_another_worker_ran_it(cluster):
    resize.delay("a")

@pytest.mark.celery_expect(worker="cpi")
def test_no_such_worker(cluster):
    resize.delay("a")

@pytest.mark.celery_expect(worker="cpu")
def test_no_cluster():
    pass

@pytest.mark.celery_expect
def test_never_called(celery_pool_cluster):
    resize.delay("a")

def test_waits_for_one_that_dies(cluster):
    die.delay().get()

def test_drains_one_that_dies(cluster):
    die.delay()
    cluster["io"].drain()

def test_runs_what_nobody_consumes(cluster):
    cluster.run(astray)

@pytest.mark.celery_expect
def test_expects_what_nobody_consumes(cluster):
    astray.delay()

def test_misspelt_pool(celery_pool_cluster):
    celery_pool_cluster({"cpu": dict(pool="prefrok", queues=["cpu"])})

def test_named(celery_pool_cluster):
    celery_pool_cluster(cpu=dict(pool="solo", queues=["cpu"]))

def test_twice(cluster, celery_pool_cluster):
    celery_pool_cluster({"third": dict(pool="solo", queues=["cpu"])})

def test_cannot_start(celery_pool_cluster):
    celery_pool_cluster({
        "good": dict(pool="solo", queues=["io"]),
        "bad": dict(pool="solo", queues=["cpu"], options=["--no-such-option"]),
    })

def test_a_worker_beside(cluster, celery_pool_worker):
    pass

@pytest.mark.celery_pools("solo")
def test_pools_that_choose_nothing(cluster):
    pass

@pytest.mark.celery_budget(runtime="1ms", tasks="proj.fetch")
def test_over_budget(cluster):
    fetch.delay("a")

def test_no_such_module(celery_pool_cluster):
    celery_pool_cluster({"io": dict(pool="no_such_package.pools:TaskPool", queues=["io"])})

def test_library_is_missing(celery_pool_cluster):
    celery_pool_cluster({"io": dict(pool="lacking_pool:TaskPool", queues=["io"])})
"""


@pytest.fixture(scope="module")
def run(shared_project):
    shared_project.write(
        proj=APP, conftest=CONFTEST, lacking_pool="import no_library\n", test_good=GOOD, test_wrong=WRONG
    )
    arguments = ("--celery-pools=prefork,solo", "--celery-app=proj:app", "--celery-timeout=8", "-rs", "-v")
    run = shared_project.run(*arguments)
    run.remains = shared_project.remains()
    return run


def told(run, test, *texts):
    failure = run.failure(test)
    for text in texts:
        assert text in failure, failure


def test_a_routed_application_runs_each_task_where_it_should(run):
    outcomes = {
        name: outcome for name, outcome in run.outcomes().items() if name in GOOD or name.startswith("test_pools_of")
    }
    assert set(outcomes.values()) == {"passed"}, run.output
    assert len(outcomes) == GOOD.count("def test_") + 1


def test_a_cluster_stands_in_one_column_unless_it_asks_for_the_axis(run):
    assert run.property("test_a_chain_across_both", "celery_pool") == ["cluster"]
    assert run.property("test_a_chain_across_both", "celery_concurrency") == [21]
    assert {"test_pools_of_the_run[prefork]", "test_pools_of_the_run[solo]"} <= run.outcomes().keys()
    assert any({"prefork", "solo", "cluster"} <= set(line.split()) for line in run.output.splitlines())


def test_nothing_is_left_of_clusters_that_worked_or_failed(run):
    assert not run.remains


def test_a_wrong_route_is_told_with_who_ran_what(run):
    told(
        run,
        "test_another_worker_ran_it",
        "under prefork (worker 'cpu'): expected worker='io', found 'cpu'",
        "celery_expect(worker='io'): cpu ran proj.resize; io ran none of them",
    )


def test_a_name_that_no_worker_has_is_told_with_those_that_there_are(run):
    text = "celery_expect(worker='cpi'): the cluster has no worker 'cpi'. Its workers: cpu, io. Did you mean 'cpu'?"
    told(run, "test_no_such_worker", text)


def test_a_worker_cannot_be_expected_without_a_cluster(run):
    told(run, "test_no_cluster[prefork]", "worker='cpu' names a worker of a cluster, and this test has none")


def test_a_cluster_that_was_never_started_fails_what_is_expected_of_it(run):
    told(run, "test_never_called", "nobody consumes (no worker was started: call celery_pool_cluster({…}))")


@pytest.mark.parametrize("test", ["test_waits_for_one_that_dies", "test_drains_one_that_dies"])
def test_a_worker_that_dies_fails_its_test_within_a_second_by_its_name(run, test):
    told(run, test, "the prefork worker 'cpu' (pid ", ") was killed by SIGKILL", "It had not ended: proj.die[")
    (seconds,) = [each["seconds"] for each in run.reports if each["nodeid"].endswith(test) and each["when"] == "call"]
    assert seconds < 1


@pytest.mark.parametrize("test", ["test_runs_what_nobody_consumes", "test_expects_what_nobody_consumes"])
def test_a_queue_that_no_worker_consumes_is_named_at_once(run, test):
    told(run, test, "lies in the queue 'nowhere', which nobody consumes (cpu consumes: cpu; io consumes: io, more)")
    (seconds,) = [each["seconds"] for each in run.reports if each["nodeid"].endswith(test) and each["when"] == "call"]
    assert seconds < 2


def test_a_misspelt_pool_is_an_error_in_the_test_s_own_line(run):
    told(run, "test_misspelt_pool", "worker 'cpu': 'prefrok' is not a pool.", "Did you mean 'prefork'?")
    assert "cluster.py" not in run.failure("test_misspelt_pool").partition("Error: ")[0]


def test_workers_given_as_arguments_are_refused_with_an_example(run):
    told(run, "test_named", "celery_pool_cluster(cpu={'pool': 'solo', 'queues': ['cpu']}) is not valid.")
    told(run, "test_named", "Valid: one mapping of the workers", 'celery_pool_cluster({"cpu": dict(pool="prefork"')


def test_a_second_call_is_an_error(run):
    told(run, "test_twice", "the test has its cluster already (cpu, io). Give all workers in one call.")


def test_a_worker_that_cannot_start_is_named_with_its_log(run):
    told(run, "test_cannot_start", "the solo worker 'bad' exited with status 2 before it was ready", "--no-such-option")


def test_a_cluster_beside_a_worker_is_refused(run):
    told(run, "test_a_worker_beside[solo]", "a test has either celery_pool_worker or celery_pool_cluster")


def test_pools_that_would_choose_nothing_are_refused(run):
    told(run, "test_pools_that_choose_nothing", "the pools of this test are those that it gives to celery_pool_cluster")


def test_a_budget_is_judged(run):
    told(run, "test_over_budget", "under the cluster: runtime", "is above the limit of 1ms")


def test_a_pool_whose_library_is_missing_skips_the_test(run):
    assert run.outcomes()["test_library_is_missing"] == "skipped"
    assert "of the cluster: no_library is not installed, and the module of the" in " ".join(run.output.split())


def test_a_pool_whose_module_does_not_exist_fails_the_test(run):
    told(run, "test_no_such_module", "worker 'io' of the cluster: there is no module 'no_such_package.pools'")


LONG = """
import pathlib

def test_long(cluster):
    pathlib.Path("running").touch()
    cluster["cpu"].app.send_task("proj.fetch", ("a",)).get()
    import time
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "sigkill"])
def test_nothing_is_left_however_pytest_ends(project, until, number):
    project.write(proj=APP, conftest=CONFTEST, test_it=LONG)
    process = project.start("--celery-app=proj:app")
    try:
        assert until((project.path / "running").exists), project.output()
        assert len(project.remains()) > 2
        os.kill(process.pid, number)
        process.wait(20)
        assert until(lambda: not project.remains()), project.remains()
    finally:
        process.kill()


@pytest.mark.slow
def test_stress_leaves_clusters_alone_and_says_so(project):
    quick = "from proj import fetch\n\ndef test_it(cluster):\n    fetch.delay('a')\n"
    project.write(proj=APP, conftest=CONFTEST, test_it=quick)
    run = project.run("--celery-app=proj:app", "--celery-stress=3", "-n1")
    assert run.outcomes() == {"test_it": "passed"}
    assert "--celery-stress: the tasks of tests with celery_pool_cluster were not repeated" in run.output
