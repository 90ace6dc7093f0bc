"""What nothing takes, and how a worker's memory is made ready: with a worker that does what it is told to."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from pytest_celerypool.agent.garbage import SIGNAL, Collector, answers
from pytest_celerypool.crossing import Crossing
from pytest_celerypool.floors import growth_range, refused, warm_up
from pytest_celerypool.launch import collect_garbage_of
from pytest_celerypool.ledger import Ledger
from pytest_celerypool.markers import BudgetSpec, Limit
from pytest_celerypool.pools import POOLS
from pytest_celerypool.trace import Span

MIB = 1 << 20


class Launched:
    """Of a worker only that it is one."""


class Worker:
    """A handle whose worker needs two milliseconds for nothing."""

    def __init__(self, pool="prefork"):
        self.pool = next(each for each in POOLS if each.name == pool)
        self.launched, self.queues, self.concurrency = Launched(), ["b", "a"], 3
        self.sent, self.repeated, self.soiled, self.begun = [], set(), False, 0
        self.app = SimpleNamespace(send_task=self._send_task)
        self.asked = []
        self.ledger = self.new_ledger("test_x")

    def new_ledger(self, test):
        return Ledger(test, "prefork", reports_lost=True, worker="w")

    def end_log(self):
        pass

    def begin_log(self):
        self.begun += 1

    def drain(self, timeout=None):
        pass

    def _send_task(self, name, queue, ignore_result):
        self.asked.append((name, queue))
        new = f"{len(self.asked)}"
        self.ledger._entry(new, name).spans.append(
            Span(new, name, 0, "test_x", "prefork", "w", started=1.0, ended=1.002, cpu=0.001)
        )


def spec(**limits):
    return BudgetSpec({name: Limit(value, f"{value:g}") for name, value in limits.items()}, 100, "*", None)


@pytest.mark.parametrize(
    ("limits", "measures"),
    [
        ({"runtime": 0.001, "cpu": 0.0005}, ["runtime", "cpu"]),
        ({"runtime": 0.003, "cpu": 0.002}, []),
        ({"memory": MIB / 2}, ["memory"]),
        ({"memory": MIB}, []),
    ],
)
def test_limits_below_what_nothing_takes_are_refused(limits, measures):
    """A limit above it can be judged."""
    assert list(refused(Worker(), spec(**limits))) == measures


def test_the_floor_is_measured_once_a_worker_in_a_queue_that_it_consumes_and_is_not_of_the_test():
    """A worker may consume none but the queues of its options."""
    worker = Worker()
    for _ in range(2):
        refused(worker, spec(cpu=0.001))
    assert worker.asked == [("celery.accumulate", "a")] * 10
    assert not worker.ledger.tasks


def test_limits_that_are_high_need_no_floor():
    """No task is sent for them."""
    worker = Worker()
    refused(worker, spec(runtime=0.02, memory=20 * MIB))
    assert worker.asked == []


@pytest.mark.parametrize(
    ("pool", "limit", "sent"), [("prefork", MIB, 6), ("solo", MIB, 2), ("prefork", 16 * MIB, 0), ("prefork", None, 0)]
)
def test_every_slot_runs_something_before_a_low_limit_of_memory(pool, limit, sent):
    """A child grows at its first tasks; what it logs then is not of the test."""
    worker = Worker(pool)
    warm_up(worker, spec(runtime=1.0) if limit is None else spec(memory=limit))
    assert (len(worker.asked), worker.begun) == (sent, int(sent > 0))


@pytest.mark.parametrize(("limit", "noise"), [(2 * MIB, MIB), (16 * MIB, 4 * MIB)])
def test_what_was_not_warmed_up_is_known_worse(limit, noise):
    """Its first tasks make it grow."""
    assert growth_range(spec(memory=limit), 7) == (7.0, 7.0, noise)


@pytest.fixture
def handler():
    """The handler of the signal that asks for garbage to be collected, as it was."""
    before = signal.getsignal(SIGNAL)
    yield lambda: signal.getsignal(SIGNAL)
    signal.signal(SIGNAL, before)


def test_a_process_answers_that_it_has_collected_its_garbage(tmp_path, handler):
    """Whoever asks waits for that, each time."""
    Collector(str(tmp_path)).register()
    assert collect_garbage_of(tmp_path, [os.getpid()])
    assert collect_garbage_of(tmp_path, [os.getpid()])
    assert os.stat(answers(str(tmp_path), os.getpid())).st_size == 2


def test_a_handler_of_the_users_is_left_alone_and_never_called(tmp_path, handler):
    """It may do anything; and nobody waits for an answer."""
    called = []

    def own(*_):
        called.append(1)

    signal.signal(SIGNAL, own)
    Collector(str(tmp_path)).register()
    assert collect_garbage_of(tmp_path, [os.getpid()])
    assert (handler(), called) == (own, [])


def test_nobody_waits_for_a_process_that_has_ended(tmp_path):
    """Its file outlives it."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f"collected-{ended.pid}").touch()
    began = time.monotonic()
    assert collect_garbage_of(tmp_path, [ended.pid])
    assert time.monotonic() - began < 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
@pytest.mark.parametrize("gone", ["main", "server"])
def test_of_somebody_who_has_ended_nothing_is_known(gone):
    """It is not taken for somebody who never waited."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    main = (ended.pid, ended.pid) if gone == "main" else None
    crossing = Crossing(main, True, ended.pid if gone == "server" else os.getpid(), {})
    assert crossing.read() is None
    crossing.close()
