"""What a test costs that borrows a running worker, against the same call with nothing around it."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark

PROJECT = Path(__file__).parent / "project"
CALLS = 50
ROUNDS = 3
POOLS = {"prefork": 2, "solo": 1, "threads": 8, "gevent": 100, "eventlet": 100}

TESTS = f"""
    import pytest
    from bench_tasks import add

    @pytest.mark.parametrize("number", range({CALLS}))
    def test_add(celery_pool_worker, number):
        assert add.delay(number, 1).get() == number + 1
"""

#: Notes when each test was over, with everything that pytest and its plugins do around it.
CONFTEST = """
    import json, time

    def pytest_runtest_logfinish(nodeid, location):
        with open("moments.jsonl", "a") as file:
            file.write(json.dumps([nodeid, time.perf_counter()]) + "\\n")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of fifty tests, each of which makes one call."""
    (tmp_path / "bench_tasks.py").write_text((PROJECT / "bench_tasks.py").read_text())
    (tmp_path / "test_add.py").write_text(textwrap.dedent(TESTS))
    (tmp_path / "conftest.py").write_text(textwrap.dedent(CONFTEST))
    return tmp_path


def test_reused_worker(project: Path, lab: Any, run: Any, show: Any) -> None:
    """A test with a worker that another test has used takes at most 20 ms more than its ``delay().get()``.

    All that lies between the ends of two tests counts as the test's: set-up, call, judging, teardown and
    pytest's own share. The bare call is made by a process of no pytest to a worker of no plugin.
    """
    with_fixture: dict[str, list[float]] = {pool: [] for pool in POOLS}
    bare: dict[str, list[float]] = {pool: [] for pool in POOLS}
    clients = {pool: lab.bare(pool, slots).client for pool, slots in POOLS.items()}
    for _ in range(ROUNDS):
        for pool, times in _with_fixture(project, run).items():
            with_fixture[pool] += times
        for pool, client in clients.items():
            bare[pool] += _bare(client)
    for pool in POOLS:
        cost = median(with_fixture[pool]) - median(bare[pool])
        show(
            f"reused {pool} worker",
            f"{cost:.1f} ms a test over the bare call",
            "at most 20 ms",
            show.Figures("a test with the fixture", with_fixture[pool], "ms"),
            show.Figures("bare delay().get()", bare[pool], "ms"),
        )
    assert all(median(with_fixture[pool]) - median(bare[pool]) <= 20 for pool in POOLS)


def _with_fixture(project: Path, run: Any) -> dict[str, list[float]]:
    """Run the tests under all pools and return what each took in ms, but the first of a pool, which starts it."""
    moments = project / "moments.jsonl"
    moments.unlink(missing_ok=True)
    options = ["--celery-pools=all", "--celery-app=bench_tasks:app", "-q", "-p", "no:cacheprovider"]
    run([sys.executable, "-m", "pytest", "-p", "pytest_celerypool.plugin", *options, "."], project)
    ended: dict[str, list[float]] = {pool: [] for pool in POOLS}
    for line in moments.read_text().splitlines():
        nodeid, moment = json.loads(line)
        ended[next(pool for pool in POOLS if pool in nodeid)].append(moment)
    assert {len(found) for found in ended.values()} == {CALLS}
    return {pool: [1000 * (after - before) for before, after in pairwise(found)] for pool, found in ended.items()}


def _bare(client: Any) -> list[float]:
    """Make the same calls to a running worker with nothing around them; returns what each took in ms."""
    times = []
    with client.with_results() as app:
        for number in range(CALLS + 1):
            started = time.perf_counter()
            assert app.send_task("bench_tasks.add", (number, 1)).get(timeout=10) == number + 1
            times.append(1000 * (time.perf_counter() - started))
    return times[1:]  # the first one connects
