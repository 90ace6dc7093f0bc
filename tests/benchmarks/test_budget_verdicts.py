"""Budgets say the truth on a busy machine: at half of its limit no task fails, at twice its limit every task does.

200 trials each of tasks of 50 ms, 200 ms and 1 s, half of which they compute and half of which they sleep; idle, and
with every processor kept busy by two other processes. Every trial is judged against both limits: twice what a task
takes on an idle machine by its own making, and half of it. A second task in the queue of one slot shows the measures
that cross processes.

    CELERYPOOL_TRIALS=20 python -m pytest -m benchmark -s tests/benchmarks/test_budget_verdicts.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark

TRIALS = int(os.environ.get("CELERYPOOL_TRIALS", "200"))
BURNERS = int(os.environ.get("CELERYPOOL_BURNERS", str(2 * (os.cpu_count() or 1))))
POOLS = ("prefork", "solo", "threads", "gevent", "eventlet")
#: Seconds that a task takes.
SIZES = (0.05, 0.2, 1.0)
#: Measures of a slot alone; those that cross processes may be inconclusive.
OWN = ("runtime", "cpu", "hold", "memory")

APP = """
import time
from celery import Celery

app = Celery("trials")
KEPT = []

@app.task
def work(seconds):
    time.sleep(seconds / 2)
    end = time.thread_time() + seconds / 2
    while time.thread_time() < end:
        pass

@app.task
def keep(mib):
    KEPT.clear()
    KEPT.append(b"x" * (mib << 20))
"""

SUITE = """
import json, os
import pytest
from trials import keep, work
from pytest_celerypool.floors import growth_range
from pytest_celerypool.markers import BudgetSpec, Limit
from pytest_celerypool.verdict.budgets import judge
from pytest_celerypool.launch import growth as growth_between

TRIALS, OUT = int(os.environ["TRIALS"]), os.environ["OUT"]
#: What the measures are of a task of one second, in their own units.
ONE = {"runtime": 1.0, "cpu": 0.5, "hold": 0.5}
MIB = 40

def verdicts(tasks, pool, values, growth=None):
    found = {}
    for measure, value in values.items():
        for name, factor in (("half", 2.0), ("twice", 0.5)):
            # Of a throughput less is worse.
            limit = value / factor if measure == "throughput" else value * factor
            spec = BudgetSpec({measure: Limit(limit, str(limit))})
            grown = None if growth is None else growth_range(spec, growth)
            outcome = judge(spec, tasks, pool.name, green=pool.green, memory_growth=grown)
            if outcome.judged:
                found[f"{measure} {name}"] = outcome.judged[0].verdict
    return found

@pytest.mark.parametrize("seconds", json.loads(os.environ["SIZES"]))
@pytest.mark.celery_pools(concurrency=1)
def test_trials(celery_pool_worker, celery_pool, seconds):
    for _ in range(TRIALS):
        own = celery_pool_worker.new_ledger("trial")
        celery_pool_worker.ledger = own
        first = celery_pool_worker.submit(work, seconds)
        # The longest are only repeated alone: the same measures would take an hour.
        second = celery_pool_worker.submit(work, seconds) if seconds < 1 else None
        celery_pool_worker.drain(60)
        tasks = list(own.tasks.values())
        values = {name: value * seconds for name, value in ONE.items()}
        found = verdicts([own.tasks[first.id]], celery_pool, {**values, "total": seconds})
        # If the test itself had no processor and published the second so late, that one has truly waited less.
        if second is not None and own.tasks[second.id].spans[0].queued >= 0.9 * seconds:
            found |= verdicts([own.tasks[second.id]], celery_pool, {"queued": seconds})
        if second is not None:
            found |= verdicts(tasks, celery_pool, {"makespan": 2 * seconds, "throughput": 1 / seconds})
        with open(OUT, "a") as file:
            file.write(json.dumps([celery_pool.name, seconds, found]) + "\\n")

@pytest.mark.celery_pools(concurrency=1)
def test_memory(celery_pool_worker, celery_pool):
    celery_pool_worker.run(keep, 1)
    for number in range(TRIALS):
        own = celery_pool_worker.new_ledger("trial")
        celery_pool_worker.ledger = own
        celery_pool_worker.run(keep, 0)
        before = celery_pool_worker.settled_memory()
        celery_pool_worker.run(keep, MIB)
        growth = growth_between(before, celery_pool_worker.settled_memory())
        found = verdicts(list(own.tasks.values()), celery_pool, {"memory": MIB << 20}, growth)
        with open(OUT, "a") as file:
            file.write(json.dumps([celery_pool.name, 0, found]) + "\\n")
"""


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep processors busy by so many processes."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@pytest.mark.parametrize("load", ["idle", "busy"])
@pytest.mark.parametrize("pool", POOLS)
def test_half_never_fails_and_twice_always_does(pool: str, load: str, tmp_path: Path, show: Any) -> None:
    """For every measure; those that cross processes may be inconclusive under load, and are never wrong."""
    (tmp_path / "trials.py").write_text(APP)
    (tmp_path / "test_trials.py").write_text(SUITE)
    out = tmp_path / "out.jsonl"
    environment = {
        **os.environ,
        "TRIALS": str(TRIALS),
        "SIZES": json.dumps(SIZES),
        "OUT": str(out),
        "PYTHONPATH": str(tmp_path),
    }
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--celery-app=trials:app",
        f"--celery-pools={pool}", "--celery-findings=off", "--celery-timeout=120",
    ]  # fmt: skip
    with busy(BURNERS if load == "busy" else 0):
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=7200)
    assert ran.returncode == 0, ran.stdout[-3000:]
    counts: dict[str, Counter[str]] = {}
    for line in out.read_text().splitlines():
        _, seconds, found = json.loads(line)
        for name, verdict in found.items():
            counts.setdefault(f"{name} {seconds:g}", Counter())[verdict] += 1
    wrong = {}
    for name, verdicts in sorted(counts.items()):
        measure, side, _ = name.split()
        never, always = ("broken", "kept") if side == "half" else ("kept", "broken")
        print(f"  {pool} {load} {name} s: {dict(verdicts)}")
        if verdicts[never] or (measure in OWN and side == "twice" and verdicts[always] < verdicts.total()):
            wrong[name] = dict(verdicts)
    assert not wrong
