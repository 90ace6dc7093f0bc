"""The example with FastAPI does with RabbitMQ and Redis what its README says, and leaves nothing there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from servers import RabbitService, RedisService

pytestmark = pytest.mark.services

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "examples" / "fastapi_orders"

#: Seconds for a run of the example.
DEADLINE = 180

#: What the README's command shows; where a pool has "-" the marker of the test leaves it out.
MATRIX = """
tests/test_orders.py prefork solo threads gevent eventlet
test_bill ok ok ok ok ok
test_bank_is_asked_again ok ok ok ok ok
test_unknown_article ok ok ok ok ok
test_order_waits_for_a_worker ok ok ok ok ok
test_each_task_is_quick ok ok ok ok ok
test_articles_…reserved_side_by_side ok - ok ok ok
test_wrong…publishes_nothing[wrong0] ok ok ok ok ok
test_wrong…publishes_nothing[wrong1] ok ok ok ok ok
test_wrong…publishes_nothing[wrong2] ok ok ok ok ok
test_rush_hour - - ok ok ok
total ok 9 8 10 10 10
"""

#: Notes what the run declared on RabbitMQ so far, after each test; its folder is gone when the run is over.
NOTES_NAMES = """
import pathlib


def pytest_runtest_teardown(item):
    worker = item.funcargs.get("celery_pool_worker")
    if worker is not None:
        log = pathlib.Path(worker.launched.target["broker_transport_options"]["celerypool_log"])
        with open({names!r}, "a") as names:
            names.write(log.read_text())
"""


@dataclass(frozen=True)
class Ran:
    """A run of the example that ended."""

    status: int
    output: str
    #: What it declared on RabbitMQ: kinds and names.
    declared: list[tuple[str, str]]
    #: The keys that the run left in Redis.
    keys: set[bytes]


def command() -> list[str]:
    """The line of the README that runs the tests with both servers."""
    (line,) = re.findall(r"(?m)^\$ (pytest .*--celery-broker=amqp:.*)$", (EXAMPLE / "README.md").read_text())
    return shlex.split(line)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, redis_service: RedisService, rabbit_service: RabbitService) -> Ran:
    """A run of the README's command in a copy of the example."""
    folder = tmp_path_factory.mktemp("example") / "fastapi_orders"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "build"))
    program, *words = command()
    assert program == "pytest"
    names = folder / "names.txt"
    (folder / "notes_names.py").write_text(NOTES_NAMES.format(names=str(names)))
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "CELERY_"))}
    plugins = "-p notes_names -p no:asyncio -p no:randomly -p no:celery -p no:docker_tools -p no:cacheprovider"
    redis = RedisService(int(words[-1].rpartition("/")[2]))
    before = redis.everything()
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        env={**inherited, "PYTEST_ADDOPTS": plugins, "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
    )
    print(run.stdout)  # for whoever reads of a failure
    lines = dict.fromkeys(names.read_text().splitlines()) if names.exists() else {}
    pairs = [(kind, name) for kind, _, name in (line.partition(" ") for line in lines)]
    return Ran(run.returncode, run.stdout, pairs, redis.everything() - before)


def rows(text: str) -> Iterator[str]:
    """The lines of a matrix, without the figures of budgets."""
    for line in text.strip().splitlines():
        if "nearest budget" not in line:
            yield " ".join(line.split())


def test_all_pools_pass(ran: Ran) -> None:
    """Every test passes under every pool that its marker lets it."""
    _, _, matrix = ran.output.partition("= celery pools =")
    shown = list(rows(matrix.partition("\n")[2].partition("\n===")[0]))
    assert (ran.status, shown) == (0, list(rows(MATRIX)))


def test_servers_are_those_of_the_command(ran: Ran) -> None:
    """The run says that it used RabbitMQ and Redis, and declared the application's queues there by names of its own."""
    assert "broker: amqp://guest:***@127.0.0.1:5672// (--celery-broker)" in ran.output
    assert "backend: redis://127.0.0.1:6379/1 (--celery-backend)" in ran.output
    queues = {
        name.split(".", 3)[3] for kind, name in ran.declared if kind == "queue" and name.startswith("celerypool.")
    }
    assert {"celery", "mail"} <= queues


def test_nothing_is_left_in_rabbitmq(ran: Ran, rabbit_service: RabbitService) -> None:
    """No queue and no exchange that the run declared is there any longer."""
    assert ran.declared
    assert [pair for pair in ran.declared if rabbit_service.exists(*pair)] == []


def test_nothing_is_left_in_redis(ran: Ran) -> None:
    """No key that was not there before."""
    assert ran.keys == set()
