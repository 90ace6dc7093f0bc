"""``concurrency="sweep"``: throughput at each concurrency, gathered wherever the test ran."""

import re

import pytest

APP = """
import time
from celery import Celery

app = Celery("proj")

@app.task
def wait(n):
    time.sleep(0.1)
"""

SUITE = """
import pytest
from proj import wait

@pytest.mark.celery_pools(concurrency=[1, 2, 4, 8])
def test_wait(celery_pool_worker):
    celery_pool_worker.map(wait, range(4 * celery_pool_worker.concurrency))

def test_other(celery_pool_worker):
    wait.delay(1).get()
"""

HEADING = re.compile(r"test_it\.py::test_wait under (\w+)")
ROW = re.compile(r"^  +(\d+) +([\d.]+)  █+", re.MULTILINE)


def tables(output):
    """The measured throughputs of each pool, by slots."""
    found = {}
    for text in HEADING.split(output.partition("celery sweeps")[2].partition("celery pools")[0])[1:]:
        if text.isidentifier():
            rows = found.setdefault(text, {})
        else:
            rows |= {int(slots): float(figure) for slots, figure in ROW.findall(text)}
    return found


@pytest.mark.gate("here")
@pytest.mark.parametrize(
    ("pools", "elsewhere"),
    [("threads", []), ("threads", ["-n2"]), ("gevent", ["--celery-launch=inprocess"])],
    ids=["here", "xdist", "host"],
)
def test_every_concurrency_has_its_row_and_more_slots_wait_for_more_at_once(project, pools, elsewhere):
    """Nodes of xdist and hosts measure, and the process that ends the run shows it."""
    project.write(proj=APP, test_it=SUITE)
    run = project.run("--celery-app=proj:app", f"--celery-pools={pools}", *elsewhere)
    assert run.status == 0, run.output
    rows = tables(run.output)[pools]
    assert list(rows) == [1, 2, 4, 8]
    assert rows[8] > 2 * rows[1]
    assert "X(N) = " in run.output
    (throughput,) = run.property(f"test_wait[{pools}-8]", "celery_throughput")
    assert throughput == pytest.approx(rows[8], rel=0.01)
    assert run.property(f"test_other[{pools}]", "celery_throughput") == []


def test_solo_is_measured_once_and_nothing_is_fitted(project):
    """It has one slot, whatever is asked for."""
    project.write(proj=APP, test_it=SUITE.replace("[1, 2, 4, 8]", '"sweep"'))
    run = project.run("--celery-app=proj:app", "--celery-pools=solo", "-k", "test_wait")
    assert run.outcomes() == {"test_wait[solo-1]": "passed"}
    assert list(tables(run.output)["solo"]) == [1]
    assert "X(N)" not in run.output


@pytest.mark.slow
def test_quiet_runs_and_failed_tests_show_no_throughput(project):
    """What a failing test measured is no throughput of its tasks."""
    project.write(proj=APP, test_it=SUITE + "    assert False\n")
    failing = SUITE.replace("range(4 * celery_pool_worker.concurrency))", "range(1)); assert False")
    project.write(test_it=failing.replace("[1, 2, 4, 8]", "[1, 2]"))
    run = project.run("--celery-app=proj:app", "--celery-pools=threads", "-k", "test_wait")
    assert set(run.outcomes().values()) == {"failed"}
    assert "celery sweeps" not in run.output
