"""A fresh worker in the process of the test: start, one task, end, against ``celery.contrib.testing.worker``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark

SCRIPT = Path(__file__).parent / "project" / "fresh_worker.py"
ROUNDS = 4

#: Pool to how many times faster it must be, on Redis and in memory (prefork's children cannot use that).
ON_REDIS = {"prefork": 3, "solo": 5, "threads": 5, "gevent": 20, "eventlet": 20}
IN_MEMORY = {"solo": 20, "threads": 20}


@pytest.mark.parametrize(("pool", "goal"), ON_REDIS.items())
def test_on_redis(pool: str, goal: int, lab: Any, run: Any, show: Any, tmp_path: Path) -> None:
    """Both on the same private server."""
    _compare(pool, lab.urls()["CELERY_BROKER_URL"], goal, run, show, tmp_path)


@pytest.mark.parametrize(("pool", "goal"), IN_MEMORY.items())
def test_in_memory(pool: str, goal: int, run: Any, show: Any, tmp_path: Path) -> None:
    """Both on kombu's ``memory://``."""
    _compare(pool, "memory://", goal, run, show, tmp_path)


def _compare(pool: str, url: str, goal: int, run: Any, show: Any, folder: Path) -> None:
    pairs = json.loads(run([sys.executable, SCRIPT, pool, url, ROUNDS], folder).splitlines()[-1])
    mine, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    ratio = median(other / one for one, other in pairs)
    show(
        f"a fresh worker in this process, {pool} on {url.partition(':')[0]}",
        f"{ratio:.1f} times faster than contrib's",
        f"at least {goal}",
        show.Figures("this plugin", mine, "s"),
        show.Figures("celery.contrib", theirs, "s"),
    )
    assert ratio >= goal
