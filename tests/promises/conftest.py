"""What the tests of promises share: the application, ways to keep a worker busy, and the table of what was measured."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from figures import processor_time

from pytest_celerypool.trace import Span

HERE = Path(__file__).parent

#: The columns of the table: the test and the first line of its docstring, then what it measured under which pool.
COLUMNS = ("test", "promise", "measured", "pool", "figure", "unit")

#: The user property in which a test's figures travel to the process that writes the table.
PROPERTY = "promise"

#: Seconds for all tasks of one burst.
DEADLINE_S = 120.0


@pytest.fixture(scope="session")
def celery_pool_app() -> Any:
    """The application of these tests."""
    from promised import app

    return app


# -- the table


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--promises",
        metavar="FILE",
        help="write what the tests of tests/promises measure to FILE, as docs/promises.csv",
    )


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("promises", default=None)
    if file and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(Path(file)))


def read_table(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table, none where there is no file; its first line says where it was measured."""
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()[1:])) if file.exists() else []


class Table:
    """Collects the rows of passed tests, from every process of the run, and writes them when it ends.

    Rows of other tests that are in the file stay as they are.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._rows += [value for name, value in report.user_properties if name == PROPERTY]

    def pytest_sessionfinish(self) -> None:
        measured = {row["test"] for row in self._rows}
        kept = [row for row in read_table(self._file) if row["test"] not in measured]
        rows = sorted((*kept, *self._rows), key=lambda row: row["test"])
        with self._file.open("w", encoding="utf-8", newline="") as file:
            file.write(f"# {self._where()}\n")
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    @staticmethod
    def _where() -> str:
        packages = ", ".join(f"{name} {version(name)}" for name in ("celery", "gevent", "eventlet"))
        return (
            f"Measured {datetime.now(UTC):%Y-%m-%d} on {platform.system()} {platform.release()} with {os.cpu_count()} "
            f"processors and {psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}, "
            f"{packages}."
        )


@pytest.fixture
def measured(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Note a figure for the table: ``measured(what, pool, figure, unit)``."""
    module = request.path.stem
    promise = request.function.__doc__.partition("\n")[0]

    def note(what: str, pool: object, figure: float, unit: str = "") -> None:
        text = f"{figure:.0f}" if figure == int(figure) or figure >= 100 else f"{figure:.2g}"
        row = (f"{module}::{request.function.__name__}", promise, what, str(pool), text, unit)
        record_property(PROPERTY, dict(zip(COLUMNS, row, strict=True)))

    return note


# -- comparing


@dataclass(frozen=True)
class Side:
    """A worker as the other side of a comparison: its pool and its slots."""

    pool: str
    slots: int


@pytest.fixture(scope="session")
def _sides() -> dict[str, tuple[Side, Any]]:
    """The figures of tests that have run, by their node ids."""
    return {}


@pytest.fixture
def compared(
    request: pytest.FixtureRequest, celery_pool_worker: Any, _sides: dict[str, tuple[Side, Any]]
) -> Callable[..., Mapping[Side, Any]]:
    """Compare tests of one file, which run under one pool each.

    ``compared(figure, "test_a", "test_b")`` keeps the figure of this test, and gives those of every variant of the
    named tests as soon as the last of them has come; until then nothing. Without names it is this test alone.
    """

    def compare(figure: Any, *tests: str) -> Mapping[Side, Any]:
        named = tests or (request.function.__name__,)
        _sides[request.node.nodeid] = Side(str(celery_pool_worker.pool), celery_pool_worker.concurrency), figure
        items = [item for item in request.session.items if item.path == request.path and item.originalname in named]
        if any(item.nodeid not in _sides for item in items):
            return {}
        return dict(_sides[item.nodeid] for item in items)

    return compare


# -- load


@dataclass(frozen=True)
class Burst:
    """What a worker made of many tasks that were there all at once.

    :ivar spans: their executions.
    :ivar seconds: from the moment at which the worker was let at them to the end of the last.
    :ivar cpu: processor time in seconds of all processes of the worker meanwhile.
    :ivar own: that of its main process alone.
    """

    spans: Sequence[Span]
    seconds: float
    cpu: float
    own: float

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return len(self.spans) / self.seconds


@pytest.fixture
def burst(celery_pool_worker: Any) -> Callable[..., Burst]:
    """Give the worker many tasks at once: ``burst(task, [arguments, …])``.

    While they are published the worker does not consume, so that neither the pace of the publisher nor its processor
    time is measured.
    """
    control, hostname = celery_pool_worker.app.control, celery_pool_worker.hostname

    def run(task: Any, calls: Iterable[tuple[Any, ...]]) -> Burst:
        before = len(celery_pool_worker.spans)
        control.cancel_consumer("celery", destination=[hostname], reply=True)
        for arguments in calls:
            celery_pool_worker.submit(task, *arguments)
        cpu, own = processor_time(celery_pool_worker.pid)
        began = time.monotonic()
        control.add_consumer("celery", destination=[hostname], reply=True)
        celery_pool_worker.drain(DEADLINE_S)
        spans = celery_pool_worker.spans[before:]
        cpu_after, own_after = processor_time(celery_pool_worker.pid)
        return Burst(spans, max(span.ended for span in spans) - began, cpu_after - cpu, own_after - own)

    return run


class SlowServer:
    """The slow server, in a process of its own.

    :param delay: the seconds between a request and its answer.
    """

    def __init__(self, delay: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "slow_server.py"), str(delay)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/"

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=10)


@pytest.fixture
def slow_server() -> Iterator[Callable[[float], str]]:
    """Start a server that answers every GET after some seconds: ``slow_server(seconds)`` gives its URL."""
    servers: list[SlowServer] = []

    def start(delay: float) -> str:
        servers.append(SlowServer(delay))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()
