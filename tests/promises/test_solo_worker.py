"""What solo leaves out: an answer while it works, and slots."""

from pathlib import Path

import pytest
from promised import wait_for

from pytest_celerypool.pools import POOLS

#: Run with four slots, which solo is told of.
SUITE = """
from figures import at_once
from promised import wait

def test_slots(celery_pool_worker, record_property):
    celery_pool_worker.map(wait, [0.1] * 4)
    record_property("at_once", at_once(celery_pool_worker.spans))
"""


@pytest.mark.celery_pools(*(pool.name for pool in POOLS), concurrency=2)
@pytest.mark.celery_expect
@pytest.mark.celery_allow("control-blocked", pools=["solo"], reason="that it does not answer is what is tested")
def test_remote_control_while_a_task_runs(celery_pool_worker, measured, tmp_path, until):
    """While a task runs, solo answers no remote control; every other pool does."""
    pool, control = celery_pool_worker.pool, celery_pool_worker.app.control
    celery_pool_worker.submit(wait_for, str(tmp_path / "go"))
    until(lambda: celery_pool_worker.spans)
    answers = control.ping(destination=[celery_pool_worker.hostname], timeout=1.0 if pool.name == "solo" else 20.0)
    (tmp_path / "go").touch()
    celery_pool_worker.drain()
    measured("pings answered while a task runs, of 1", pool, len(answers))
    assert len(answers) == (0 if pool.name == "solo" else 1)
    # The first answer that comes may be to the ping of before, which is then taken for none.
    assert until(lambda: control.ping(destination=[celery_pool_worker.hostname], timeout=5.0))


@pytest.mark.slow
def test_concurrency_is_ignored(project, measured):
    """A solo worker started with `--concurrency=4` runs one task at a time all the same."""
    project.write(test_slots=SUITE)
    run = project.run(
        "--celery-app=promised:app",
        "--celery-pools=solo,threads",
        "--celery-concurrency=solo=4,threads=4",
        environment={"PYTHONPATH": str(Path(__file__).parent)},
    )
    (alone,) = run.property("test_slots[solo]", "at_once")
    (together,) = run.property("test_slots[threads]", "at_once")
    measured("tasks at once, of 4 that wait", "solo", alone)
    measured("tasks at once, of 4 that wait", "threads", together)
    assert (alone, together) == (1, 4)
