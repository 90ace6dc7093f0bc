"""What a host costs: its start, and a test that runs in it against the same test that runs here."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark

ROUNDS = 5
TESTS = 300


@pytest.mark.parametrize("pool", ["prefork", "gevent", "eventlet"])
def test_host(pool: str, run: Any, show: Any, tmp_path: Path) -> None:
    """Tests that ask for the pool alone, so that no worker is in the figures; threads are what runs here."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_one.py").write_text("def test_it(celery_pool):\n    pass\n")
    (tmp_path / "test_many.py").write_text(
        f"import pytest\n\n@pytest.mark.parametrize('n', range({TESTS}))\ndef test_it(n, celery_pool):\n    pass\n"
    )
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for name in (pool, "threads"):
            for file in ("test_one.py", "test_many.py"):
                seconds.setdefault((name, file), []).append(_timed(run, tmp_path, name, file))
    start = median(seconds[pool, "test_one.py"]) - median(seconds["threads", "test_one.py"])
    each = {
        name: (median(seconds[name, "test_many.py"]) - median(seconds[name, "test_one.py"])) / (TESTS - 1) * 1e3
        for name in (pool, "threads")
    }
    show(
        f"a host, {pool}",
        f"{start:.2f} s for its start and end, {each[pool]:.2f} ms a test against {each['threads']:.2f} ms here",
        "none is set",
        show.Figures("one test in the host", seconds[pool, "test_one.py"], "s"),
        show.Figures("one test here", seconds["threads", "test_one.py"], "s"),
        show.Figures(f"{TESTS} tests in the host", seconds[pool, "test_many.py"], "s"),
        show.Figures(f"{TESTS} tests here", seconds["threads", "test_many.py"], "s"),
    )


def _timed(run: Any, folder: Path, pool: str, file: str) -> float:
    plugins = ["-p", "pytest_celerypool.plugin", "-p", "no:cacheprovider"]
    began = time.perf_counter()
    printed = run(
        [sys.executable, "-m", "pytest", *plugins, f"--celery-pools={pool}", "--celery-launch=inprocess", file], folder
    )
    took = time.perf_counter() - began
    assert "passed" in printed
    return took
