"""The matrix of ten ordinary tests over five pools, against what people do by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from pytest_celerypool.pools import POOLS, default_concurrency

pytestmark = pytest.mark.benchmark

HERE = Path(__file__).parent
SHOP = HERE.parent.parent / "docs" / "examples" / "shop"
DEADLINE = 60.0

#: The pools, and the slots that the plugin gives them here.
BY_HAND = {pool.name: default_concurrency(pool, os.cpu_count() or 1, 0) for pool in POOLS}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of docs/examples/shop with the tests of its own, and beside them the same ten for doing it by hand."""
    copy = tmp_path / "shop"
    shutil.copytree(SHOP, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (copy / "by_hand").mkdir()
    shutil.copy(HERE / "by_hand" / "shop_by_hand.py", copy / "by_hand" / "test_by_hand.py")
    return copy


def test_matrix(project: Path, lab: Any, run: Any, show: Any) -> None:
    """One command is at least eight times faster than five workers started, asked, used and stopped by hand."""
    mine, theirs = [], []
    for _ in range(2):
        mine.append(_timed(lambda: _with_the_plugin(project, run)))
        theirs.append(_timed(lambda: _by_hand(project, lab.urls(), run)))
    mine.append(_timed(lambda: _with_the_plugin(project, run)))
    ratio = median(theirs) / median(mine)
    show(
        "matrix of ten tests over five pools",
        f"{ratio:.1f} times faster than by hand",
        "at least 8",
        show.Figures("pytest --celery-pools=all", mine, "s"),
        show.Figures("by hand, pool after pool", theirs, "s"),
    )
    assert ratio >= 8


def _timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _with_the_plugin(project: Path, run: Any) -> None:
    plugins = ["-p", "pytest_celerypool.plugin", "-p", "no:cacheprovider"]
    printed = run([sys.executable, "-m", "pytest", *plugins, "--celery-pools=all", "tests"], project)
    assert "49 passed" in printed  # one of the ten excludes solo


def _by_hand(project: Path, urls: dict[str, str], run: Any) -> None:
    """Do what a script would: for each pool start a worker, ask until it answers, run the tests, stop it."""
    celery = [sys.executable, "-m", "celery", "-A", "shop"]
    for pool, slots in BY_HAND.items():
        with (project / f"{pool}.log").open("wb") as log:
            worker = subprocess.Popen(
                [*celery, "worker", "-P", pool, "-c", str(slots), "-Q", "celery,mail", "-l", "INFO"],
                cwd=project,
                env=run.environment(urls),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _ask_until_it_answers([*celery, "inspect", "ping"], project, run.environment(urls))
            tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "by_hand"]
            assert "10 passed" in run(tests, project, urls)
            worker.terminate()
            worker.wait(DEADLINE)
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait(DEADLINE)


def _ask_until_it_answers(ping: list[str], project: Path, env: dict[str, str]) -> None:
    deadline = time.monotonic() + DEADLINE
    while subprocess.run(ping, cwd=project, env=env, capture_output=True, timeout=DEADLINE, check=False).returncode:
        assert time.monotonic() < deadline, "the worker does not answer"
