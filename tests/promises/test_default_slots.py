"""What runs where nobody says which pool and how many slots."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_celerypool.pools import POOLS

PROCESSORS = os.cpu_count() or 1

#: Run with ``--celery-concurrency=app``: Celery decides.
SUITE = """
from figures import at_once
from promised import wait

def test_slots(celery_pool_worker, record_property):
    celery_pool_worker.map(wait, [0.3] * SLOTS * 2)
    record_property("said", celery_pool_worker.concurrency)
    record_property("at_once", at_once(celery_pool_worker.spans))
"""


@pytest.fixture(scope="module")
def environment():
    return {"PYTHONPATH": str(Path(__file__).parent)}


@pytest.fixture(scope="module")
def left_to_celery(shared_project, environment):
    """A run under every pool in which nobody says how many slots there are."""
    shared_project.write(test_slots=SUITE.replace("SLOTS", str(PROCESSORS)))
    run = shared_project.run(
        "--celery-app=promised:app", "--celery-pools=all", "--celery-concurrency=app", environment=environment
    )
    assert run.status == 0, run.output
    return run


def test_default_pool(measured, tmp_path, environment, until):
    """A worker whose pool nobody names runs prefork, with as many slots as there are processors."""
    banner = tmp_path / "banner"
    with banner.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "promised", "-b", "memory://", "worker"],
            cwd=tmp_path,
            # Killed, a worker leaves the folder of its temporary files.
            env={**os.environ, **environment, "CELERY_RESULT_BACKEND": "disabled", "TMPDIR": str(tmp_path)},
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    try:
        said = until(lambda: re.search(r"concurrency: (\d+) \((\w+)\)", banner.read_text(errors="replace")))
        assert said, banner.read_text()
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)
    measured(f"slots of `celery worker` on {PROCESSORS} processors", said[2], int(said[1]))
    assert (said[2], int(said[1])) == ("prefork", PROCESSORS)


@pytest.mark.parametrize("pool", [pool.name for pool in POOLS])
def test_default_concurrency(pool, left_to_celery, measured):
    """A worker whose concurrency nobody gives says that it is the number of processors, under every pool."""
    (said,) = left_to_celery.property(f"test_slots[{pool}]", "said")
    measured(f"slots that the worker says it has, on {PROCESSORS} processors", pool, said)
    assert said == PROCESSORS


@pytest.mark.parametrize("pool", [pool.name for pool in POOLS])
def test_default_overlap(pool, left_to_celery, measured):
    """So many tasks run at once where nobody says how many, green pools included; under solo it is one."""
    (together,) = left_to_celery.property(f"test_slots[{pool}]", "at_once")
    measured(f"tasks at once, of {2 * PROCESSORS} that wait, on {PROCESSORS} processors", pool, together)
    assert together == (1 if pool == "solo" else PROCESSORS)
