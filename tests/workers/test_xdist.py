"""Under xdist outcomes are the same, and there is one matrix."""

import pytest

APP = """
from celery import Celery

app = Celery("proj")

@app.task
def add(x, y):
    return x + y
"""

SUITE = """
import pytest
from proj import add

@pytest.mark.parametrize("n", range(3))
def test_add(celery_pool_worker, n):
    assert celery_pool_worker.run(add, n, 1) == n + 1

def test_fails(celery_pool_worker):
    celery_pool_worker.run(add, 1, "x")

@pytest.mark.celery_expect(agree=True)
def test_disagrees(celery_pool):
    add.delay(1, len(str(celery_pool)))

@pytest.mark.celery_budget(runtime="1us")
def test_over_budget():
    add.delay(1, 2)

@pytest.mark.celery_budget(runtime="10s")
def test_within_budget():
    add.delay(1, 2)

def test_plain():
    pass
"""

POOLS = ["solo", "threads", "gevent"]

EXPECTED = {
    f"{test}[{pool}]" if "-" not in test else f"test_add[{pool}{test[8:]}]": outcome
    for pool in POOLS
    for test, outcome in {
        "test_add-0": "passed",
        "test_add-1": "passed",
        "test_add-2": "passed",
        "test_fails": "failed",
        "test_disagrees": "failed",
        "test_over_budget": "failed",
        "test_within_budget": "passed",
    }.items()
} | {"test_plain": "passed"}


@pytest.fixture
def suite(project):
    return project.write(proj=APP, test_it=SUITE)


@pytest.mark.gate("-n2 --dist=loadgroup")
@pytest.mark.parametrize(
    "distribution",
    [(), ("-n2",), ("-n2", "--dist=loadgroup"), ("-n2", "--dist=worksteal"), ("-n2", "--dist=each")],
    ids=" ".join,
)
def test_outcomes_are_the_same_and_there_is_one_matrix(suite, distribution):
    run = suite.run("--celery-app=proj:app", f"--celery-pools={','.join(POOLS)}", *distribution)
    assert {name.partition("@")[0]: outcome for name, outcome in run.outcomes().items()} == EXPECTED
    assert run.output.count("= celery pools =") == 1
    assert run.output.count("\nproj.add ended differently from pool to pool:") == len(POOLS)
    assert "runtime" in run.output.rpartition("= celery pools =")[2]
    assert not suite.remains()


def test_tests_of_a_pool_prefer_to_stay_on_one_node(project):
    """Two nodes start two workers for two pools, not four."""
    where = """
        import os, pathlib, pytest
        from proj import add

        @pytest.mark.parametrize("n", range(20))
        def test_add(celery_pool_worker, celery_pool, n):
            assert celery_pool_worker.run(add, n, 1) == n + 1
            pathlib.Path(f"{celery_pool}-{os.getpid()}").touch()
    """
    project.write(proj=APP, test_it=where)
    run = project.run("--celery-app=proj:app", "--celery-pools=solo,threads", "-n2")
    assert run.status == 0, run.output
    pairs = [path.name for pool in ("solo", "threads") for path in project.path.glob(f"{pool}-*")]
    assert len(pairs) <= 3, pairs
    assert len({name.partition("-")[2] for name in pairs}) == 2


@pytest.mark.slow
def test_prefork_gets_fewer_slots_where_nodes_share_the_processors(project):
    body = """
        def test_it(celery_pool_worker):
            assert celery_pool_worker.concurrency == 1
    """
    project.write(proj=APP, test_it=body)
    run = project.run("--celery-app=proj:app", "--celery-pools=prefork", "-n8")
    assert run.status == 0, run.output


def test_notes_of_the_nodes_reach_the_summary(project):
    project.write(
        proj=f"{APP}\napp.conf.task_always_eager = True\n",
        test_it="from proj import add\n\ndef test_it(celery_pool_worker):\n    celery_pool_worker.run(add, 1, 2)\n",
    )
    run = project.run("--celery-app=proj:app", "-n1")
    assert run.status == 0, run.output
    assert "task_always_eager is on in the application 'proj'" in run.output


def test_a_suite_of_one_test_ends(project):
    project.write(
        proj=APP,
        test_it="""
            from proj import add

            def test_add(celery_pool_worker):
                assert celery_pool_worker.run(add, 1, 1) == 2
        """,
    )
    run = project.run("--celery-app=proj:app", "--celery-pools=solo,threads", "-n1")
    assert run.outcomes() == {"test_add[solo]": "passed", "test_add[threads]": "passed"}, run.output
