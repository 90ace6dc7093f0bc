"""What the benchmarks share: the form of a printed figure, a private server, workers with the agent and without."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import pytest
from celery import Celery

from pytest_celerypool.agent import loading
from pytest_celerypool.agent.detectors import BUILT_IN
from pytest_celerypool.broker import AppUrls, Broker, open_broker
from pytest_celerypool.launch import Surroundings, WorkerSpec
from pytest_celerypool.launch.subprocess import SubprocessWorker
from pytest_celerypool.policies import Policies, kinds_of
from pytest_celerypool.pools import pool
from pytest_celerypool.reaper import Reaper

HERE = Path(__file__).parent
PROJECT = HERE / "project"
#: What the project has of others, as if it were installed.
LIBRARIES = HERE / "site-packages"
REPOSITORY = HERE.parent.parent

#: Seconds that anything but a whole benchmark may take.
DEADLINE = 120.0

#: Messages wait here, where no worker looks, until all of them are handed over at once.
STAGING = "staging"


# -- printing


@dataclass(frozen=True)
class Figures:
    """Measurements of one side, one for each round."""

    side: str
    values: Sequence[float]
    unit: str

    @property
    def median(self) -> float:
        return median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return (
            f"{self.side} {low:.4g} / {self.median:.4g} / {high:.4g} {self.unit} "
            f"(min / median / max of {len(self.values)})"
        )


class Show:
    """Prints every figure in the same form: what, result, goal, then a line for each side."""

    Figures = Figures

    def __call__(self, what: str, result: str, goal: str, *sides: Figures) -> None:
        print(f"\n[benchmark] {what}: {result} (goal: {goal})")
        for side in sides:
            print(f"    {side}")


@pytest.fixture
def show() -> Show:
    """Prints a figure."""
    return Show()


# -- commands


class Runner:
    """Runs commands with an environment in which nothing decides how pytest or Celery behave."""

    def __call__(self, words: Sequence[object], cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Run a command to its end, which must be a good one, and return what it printed."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return this process's environment with `env` and our libraries added, without what is Celery's or pytest's.

        Which plugins are installed here must decide no comparison, so none is loaded that is not named. Modules are
        compiled once, as those of an installed package are, whatever is usual on this machine.
        """
        without = ("PYTEST_", "CELERY_", "PYTHONDONTWRITEBYTECODE")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(without)}
        libraries = os.pathsep.join(filter(None, (str(LIBRARIES), kept.get("PYTHONPATH"))))
        return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": libraries, **(env or {})}


@pytest.fixture
def run() -> Runner:
    """Runs commands."""
    return Runner()


# -- workers


class Client:
    """Gives a worker its tasks and reads what they return, without using processor time while they run.

    :param target: the server and the database that the worker uses.
    :param death: says how the worker ended, ``None`` while it lives.
    """

    def __init__(self, target: Mapping[str, Any], death: Callable[[], str | None]) -> None:
        self._target = target
        self._death = death
        # Without a result backend here: one would follow every task, and disturb what is measured.
        self.app = Celery("client", broker=target["broker_url"], backend="disabled://")
        self._connection = self.app.connection_for_write()
        self.redis: Any = self._connection.default_channel.client

    def close(self) -> None:
        """Close the connections."""
        self._connection.release()
        self.app.close()

    @contextmanager
    def with_results(self) -> Iterator[Celery]:
        """Give an application that follows its results, as any caller has it."""
        with Celery("caller", broker=self._target["broker_url"], backend=self._target["backend_url"]) as app:
            yield app
            app.backend.result_consumer.stop()
            app.backend.client.connection_pool.disconnect()

    def send(self, task: str, *args: object) -> str:
        """Publish a task and return its id."""
        return str(self.app.send_task(f"bench_tasks.{task}", args).id)

    def stage(self, task: str, count: int, *args: object) -> list[str]:
        """Publish `count` tasks to where no worker sees them yet, and return their ids."""
        with self.app.producer_or_acquire() as producer:
            return [
                str(self.app.send_task(f"bench_tasks.{task}", args, queue=STAGING, producer=producer).id)
                for _ in range(count)
            ]

    def hand_over(self) -> float:
        """Give the worker all staged tasks at once; returns the moment."""
        now = time.monotonic()
        self.redis.rename(STAGING, "celery")
        return now

    def results(self, ids: Sequence[str]) -> list[Any]:
        """Wait until all tasks have stored their results, and return and delete these."""
        keys = [f"celery-task-meta-{task_id}" for task_id in ids]
        self.until(lambda: self.redis.exists(*keys) == len(keys), "results")
        stored = [json.loads(text) for text in self.redis.mget(keys)]
        self.redis.delete(*keys)
        assert {entry["status"] for entry in stored} == {"SUCCESS"}
        return [entry["result"] for entry in stored]

    def makespan(self, count: int, seconds: float) -> float:
        """Return how long the worker takes for `count` tasks that wait, from their hand-over to the last end."""
        ids = self.stage("wait", count, seconds)
        handed_over = self.hand_over()
        return max(self.results(ids)) - handed_over

    def makespan_unheard(self, count: int, seconds: float) -> float:
        """Return the same as :meth:`makespan` for tasks that store no result."""
        self.stage("wait_unheard", count, seconds, count)
        handed_over = self.hand_over()
        return float(self._pop("all-ended")) - handed_over

    def slot_times(self, count: int) -> list[tuple[float, float]]:
        """Return the wall and processor time in a slot of `count` tasks that do nothing, one after the other."""
        times = []
        for _ in range(count):
            self.send("in_slot")
            wall, cpu = map(float, self._pop("slot-times").split())
            times.append((wall, cpu))
        return times

    def _pop(self, key: str) -> bytes:
        """Return what a task appends to the list `key`, once it has."""
        popped = self.redis.blpop(key, timeout=int(DEADLINE))
        assert popped is not None, f"nothing came in {DEADLINE:.0f} s; the worker {self._death() or 'lives'}"
        value: bytes = popped[1]
        return value

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition; fails when the worker is dead or the deadline has passed."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            death = self._death()
            assert death is None, f"waited for {what}: the worker {death}"
            assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s for {what}"
            time.sleep(0.01)


ALL_DETECTORS = Policies(
    {kind.name: kind for path in BUILT_IN for kind in kinds_of(path)},
    BUILT_IN,
)


@contextmanager
def _as_by_users() -> Iterator[None]:
    """Start a worker as pytest in the project's folder would: with its folder and environment, and no path of ours.

    redis-py looks for its version in every folder of the path for each of its connections: six folders more, as this
    repository's own tests have, are 50 µs of a task that the bare worker does not need.
    """
    path = [entry for entry in sys.path if not Path(entry or ".").resolve().is_relative_to(REPOSITORY)]
    environment = Runner().environment()
    with chdir(PROJECT), patch.object(sys, "path", path), patch.dict(os.environ, environment, clear=True):
        yield


class Lab:
    """A private server, and workers on databases of their own.

    :param stack: ends the workers, then the server, then the reaper; the folder goes last.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._folder = Path(tempfile.mkdtemp(prefix="celerypool-"))
        stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._reaper = Reaper.start()
        stack.callback(self._reaper.close)
        self._reaper.remove_folder(self._folder)
        self._broker = self._open_broker()
        self._count = 0

    def _open_broker(self) -> Broker:
        nowhere = AppUrls("memory://", "memory://", None)
        broker = open_broker("embedded", "embedded", uuid.uuid4().hex[:8], self._folder, self._reaper, nowhere)
        self._stack.callback(broker.close)
        return broker

    def urls(self) -> dict[str, str]:
        """Return the variables that point an application at a database that nobody else uses."""
        target = self._broker.target()
        return {"CELERY_BROKER_URL": str(target["broker_url"]), "CELERY_RESULT_BACKEND": str(target["backend_url"])}

    def with_agent(self, pool_name: str, slots: int) -> PluginWorker:
        """Start a worker as the plugin does, with every detector."""
        self._count += 1
        detection = ALL_DETECTORS.configuration(str(PROJECT), pool(pool_name))
        around = dataclasses.replace(self._surroundings(), detection=detection)
        with _as_by_users():
            worker = PluginWorker(around, pool_name, slots, self._reaper)
        self._stack.callback(worker.close)
        worker.wait_ready()
        return worker

    def bare(self, pool_name: str, slots: int) -> BareWorker:
        """Start ``celery worker`` with the flags that the plugin gives its own, and nothing of the plugin."""
        self._count += 1
        worker = BareWorker(self._surroundings(), pool_name, slots, self._reaper)
        self._stack.callback(worker.close)
        worker.wait_ready()
        return worker

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            folder=self._folder / str(self._count),
            source=loading.parse("bench_tasks:app"),
            target=self._broker.target(),
            root=PROJECT,
        )


class PluginWorker:
    """A worker started through the plugin, with its agent.

    :ivar client: publishes to it.
    :ivar launched: what the plugin holds of it.
    """

    def __init__(self, around: Surroundings, pool_name: str, slots: int, reaper: Reaper) -> None:
        spec = WorkerSpec(source="bench_tasks:app", pool=pool(pool_name), concurrency=slots)
        self.client = Client(around.target, lambda: self.launched.death())
        self.launched = SubprocessWorker(spec, around, f"agent-{pool_name}", reaper)

    def wait_ready(self) -> None:
        """Wait until it consumes."""
        self.launched.wait_ready()

    def close(self) -> None:
        """Kill it: nothing that it has is of use to anybody."""
        self.client.close()
        self.launched.end(0.0)
        self.launched.reader.close()


class BareWorker:
    """A worker started by the plain ``celery`` command.

    :ivar client: publishes to it.
    """

    def __init__(self, around: Surroundings, pool_name: str, slots: int, reaper: Reaper) -> None:
        around.folder.mkdir()
        self._log = around.folder / "worker.log"
        self._reaper = reaper
        self.client = Client(around.target, self.death)
        urls = {"CELERY_BROKER_URL": around.target["broker_url"], "CELERY_RESULT_BACKEND": around.target["backend_url"]}
        # It is killed, and multiprocessing removes its temporary folder only where a process ends by itself.
        urls["TMPDIR"] = str(around.folder)
        words = ["-A", "bench_tasks:app", "worker", "-P", pool_name, "-n", f"bare-{pool_name}@%h", "-c", str(slots)]
        words += ["-l", "INFO", "--without-mingle", "--without-gossip", "--without-heartbeat"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", *words],
                cwd=PROJECT,
                env=Runner().environment(urls),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        reaper.kill_group(self.pid)

    @property
    def pid(self) -> int:
        """The process id of the main process."""
        return self._process.pid

    def death(self) -> str | None:
        """Say how it ended, ``None`` while it lives."""
        status = self._process.poll()
        return None if status is None else f"ended with {status}:\n{self._log.read_text(errors='replace')}"

    def wait_ready(self) -> None:
        """Wait until it says that it consumes."""
        self.client.until(lambda: b" ready." in self._log.read_bytes(), "the worker to be ready")

    def close(self) -> None:
        """Kill it with its children."""
        self.client.close()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(DEADLINE)
        self._reaper.forget_group(self.pid)


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A private server, and workers that end with the benchmark."""
    with ExitStack() as stack:
        yield Lab(stack)
