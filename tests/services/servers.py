"""The servers of a user's, seen without the plugin, and projects that use them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DEADLINE = 20.0

REDIS = ("127.0.0.1", 6379)
RABBITMQ = ("127.0.0.1", 5672)

SHOP = """
from celery import Celery

app = Celery("shop", broker={broker!r}, backend={backend!r})
app.conf.update(
    task_default_queue="{name}",
    task_routes={{"shop.routed": {{"queue": "{name}.routed"}}}},
    # Nobody else's workers on these servers may be in danger if isolation fails.
    control_exchange="{name}.control",
    event_exchange="{name}.ev",
    broker_connection_retry_on_startup=False,
)


@app.task
def add(x, y):
    return x + y


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def routed():
    return "routed"


@app.task(bind=True)
def stubborn(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.01)
    return self.request.retries


@app.task(bind=True)
def addressed(self):
    info = self.request.delivery_info
    return [info["exchange"], info["routing_key"], self.request.reply_to and "reply"]


@app.task
def write(path, text):
    with open(path, "a") as file:
        file.write(text + "\\n")
    return text
"""

CONFTEST = """
import glob
import os
import tempfile

import pytest


@pytest.fixture(scope="session")
def celery_pool_app():
    import shop

    return shop.app


@pytest.fixture(autouse=True)
def noted_names(celery_pool_worker):
    # What the run declared on RabbitMQ so far; its folder is gone when the run is over.
    yield
    log = celery_pool_worker.launched.target["broker_transport_options"].get("celerypool_log")
    if log and os.path.exists(log):
        with open(log) as source, open({names!r}, "a") as copy:
            copy.write(source.read())
"""


_PLUGINS = ("-p", "pytest_celerypool.plugin", "-p", "xdist", "-p", "no:cacheprovider")
_NOT_INHERITED = ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST")


@dataclass(frozen=True)
class Result:
    """How a run of a project's tests ended."""

    status: int
    output: str

    @property
    def outcomes(self) -> dict[str, int]:
        """How many tests passed, failed and so on."""
        return dict(pytest.RunResult.parse_summary_nouns(self.output.splitlines()))


class RedisService:
    """A Redis database, by default the one of :attr:`url`."""

    name = "redis"
    url = f"redis://{REDIS[0]}:{REDIS[1]}/9"

    def __init__(self, database: int = 9) -> None:
        import redis

        self.client = redis.Redis(host=REDIS[0], port=REDIS[1], db=database)

    def lying(self, queue: str) -> int:
        """The number of messages in a queue."""
        return int(self.client.llen(queue))

    def everything(self) -> set[bytes]:
        """Whatever there is on the server."""
        return set(self.client.keys())

    def forget(self, name: str) -> None:
        """Remove what a test itself made."""
        for key in self.client.scan_iter(f"*{name}*"):
            self.client.delete(key)
        deadlines = "_kombu.binding_deadlines"  # one key of kombu's for the queues of all
        ours = [member for member in self.client.zrange(deadlines, 0, -1) if name.encode() in member]
        if ours:
            self.client.zrem(deadlines, *ours)


class RabbitService:
    """A virtual host of RabbitMQ."""

    name = "amqp"
    url = f"amqp://guest:guest@{RABBITMQ[0]}:{RABBITMQ[1]}//"

    def lying(self, queue: str) -> int:
        """The number of messages in a queue."""
        with self._channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def exists(self, kind: str, name: str) -> bool:
        """Whether there is a queue or exchange of that name."""
        import amqp

        with self._channel() as channel:
            try:
                if kind == "queue":
                    channel.queue_declare(name, passive=True)
                else:
                    channel.exchange_declare(name, "direct", passive=True)
            except amqp.exceptions.NotFound:
                return False
            except amqp.exceptions.AMQPError:  # it exists and is another's
                return True
            return True

    def everything(self) -> None:
        """Nothing: over AMQP alone a server does not say what it has."""

    def forget(self, name: str) -> None:
        """Remove what a test itself made."""
        with self._channel() as channel:
            for queue in (name, f"{name}.routed", f"{name}.lying"):
                channel.queue_delete(queue)
                channel.exchange_delete(queue)
            for exchange in (f"{name}.control.pidbox", f"reply.{name}.control.pidbox", f"{name}.ev"):
                channel.exchange_delete(exchange)

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Any]:
        import amqp

        connection = amqp.Connection("{}:{}".format(*RABBITMQ), connect_timeout=5)
        connection.connect()
        try:
            yield connection.channel()
        finally:
            connection.close()


class Project:
    """A project of a user's: an application in ``shop.py``, queues of a name of its own, tests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"celerypooltest{uuid.uuid4().hex[:8]}"
        self.queue = self.name
        self._names_file = path / "names.txt"
        self.configured("memory://", "cache+memory://")
        (path / "conftest.py").write_text(CONFTEST.format(names=str(self._names_file)))

    def configured(self, broker: Any, backend: str, *settings: str) -> Project:
        """Give the application its own servers, and lines of settings ``name = value``."""
        text = SHOP.format(broker=broker, backend=backend, name=self.name)
        lines = (f"app.conf.{setting}\n" for setting in settings)
        (self.path / "shop.py").write_text(text + "".join(lines))
        return self

    def tests(self, text: str) -> Project:
        """Write the project's tests."""
        head = "import pytest\nfrom shop import *\n\n"
        (self.path / "test_shop.py").write_text(head + text.replace("QUEUE", self.queue))
        return self

    def run(self, *options: str, **environment: str) -> Result:
        """Run the project's tests in a pytest of their own."""
        process = self.start(*options, **environment)
        try:
            output = process.communicate(timeout=3 * DEADLINE)[0].decode()
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        print(output)  # for whoever reads of a failure
        return Result(process.returncode, output)

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start the project's tests and do not wait."""
        inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *_PLUGINS, *options],
            cwd=self.path,
            env={**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def declared(self) -> list[tuple[str, str]]:
        """What the run noted as declared on RabbitMQ: kinds and names."""
        lines = self._names_file.read_text().splitlines() if self._names_file.exists() else []
        pairs = (line.split(" ", 1) for line in dict.fromkeys(lines))
        return [(kind, name) for kind, name in pairs]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds, and fail after :data:`DEADLINE` seconds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.02)


class Foreign:
    """A worker and messages of a user's own, outside every run, on the queues that the project uses too."""

    def __init__(self, project: Project, service: Any, log: Path) -> None:
        from celery import Celery

        self.project = project
        self.app = Celery(set_as_current=False, broker=service.url)
        self.queue = project.queue
        self.lying = f"{project.queue}.lying"
        self.did = project.path / "foreign-did"
        self._service = service
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", *self._words()],
                cwd=project.path,
                stdout=stream,
                stderr=stream,
            )
        for number in range(3):
            self.publish(f"lying {number}", self.lying)
        until(self._ready, f"the foreign worker is ready: {log.read_text()}")

    def _words(self) -> list[str]:
        queues = f"{self.queue},{self.queue}.routed"
        words = f"-A shop worker -P solo -n foreign@here -Q {queues} -l INFO --without-mingle --without-gossip"
        return words.split()

    def _ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        return " ready." in self._log.read_text()

    def publish(self, text: str, queue: str | None = None) -> None:
        """Send a message that says `text`."""
        self.app.send_task("shop.write", (str(self.did), text), queue=queue or self.queue)

    def works(self, text: str) -> bool:
        """Send a message to the worker and say whether it was done, in good time."""
        self.publish(text)
        until(lambda: self.process.poll() is not None or text in self.has_done(), f"the foreign worker did {text!r}")
        return self.process.poll() is None

    def has_done(self) -> list[str]:
        return self.did.read_text().splitlines() if self.did.exists() else []

    def received(self) -> int:
        """How many tasks the worker was given, by its own log."""
        return self._log.read_text().count(" received")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        self.app.close()
