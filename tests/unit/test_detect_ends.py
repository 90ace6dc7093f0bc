"""What of an exception its caller does not get, and which exceptions end more than their task."""

import functools
import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from celery import Celery, signals
from celery.backends.cache import CacheBackend
from celery.exceptions import Ignore, Reject
from kombu.exceptions import EncodeError

from pytest_celerypool import pools
from pytest_celerypool.agent.detectors.ends import stop_receivers
from pytest_celerypool.agent.detectors.ends.exceptions import Exceptions, _lost, _same_class
from pytest_celerypool.agent.detectors.ends.exit_functions import ExitFunctions, _code_of
from pytest_celerypool.agent.detectors.ends.lost import Endings
from pytest_celerypool.agent.detectors.ends.stop_receivers import StopReceivers
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.watch import PoolFacts


class ProblemError(Exception):
    def __init__(self, *args, code=None):
        super().__init__(*args)
        self.code = code


def test_an_exception_that_arrives_whole_has_lost_nothing():
    assert _lost(ProblemError("a", 1, (2, 3)), ProblemError("a", 1, [2, 3])) == []
    assert _lost(KeyError("x"), KeyError("x")) == []


def test_arguments_that_became_text_and_attributes_that_are_gone_are_named():
    class Thing:
        pass

    assert _lost(ProblemError(Thing()), ProblemError("<Thing>")) == ["argument 1 (a Thing, now text)"]
    assert _lost(ProblemError("a", code=3), ProblemError("a")) == ["attribute code"]
    assert _lost(ProblemError("a", "b"), ProblemError("a")) == ["2 args as they were"]


def test_notes_are_no_data_of_the_exception():
    noted = ProblemError("a")
    noted.add_note("see the log")
    assert _lost(noted, ProblemError("a")) == []


def test_a_class_that_was_built_again_under_its_name_is_the_same():
    again = type("ProblemError", (Exception,), {"__module__": ProblemError.__module__})
    assert _same_class(again, ProblemError)
    assert not _same_class(Exception, json.JSONDecodeError)


@pytest.fixture
def failing():
    """Return what gives a task's failure to the detector of lost tasks under a pool; and the kinds that it reported."""

    def fail(pool, state, exc, *, limit=None):
        found = pools.pool(pool)
        facts = {"reports_system_exit": found.reports_system_exit}
        kinds = []
        watch = SimpleNamespace(
            pool=PoolFacts(pool, found.green, found.forks, facts),
            frames=Frames("/"),
            report=lambda kind, *_, **__: kinds.append(kind),
        )
        task = SimpleNamespace(name="t.work", run=fail, time_limit=None, soft_time_limit=None)
        run = Run("id", task, "about")
        run.limits = (limit, None)
        Endings(watch).failed(run, state, exc)
        return kinds

    return fail


@pytest.mark.parametrize(("pool", "found"), [("prefork", True), ("solo", True), ("threads", False), ("gevent", False)])
def test_memory_that_is_not_there_ends_the_workers_whose_main_process_hears_of_it(failing, pool, found):
    assert failing(pool, "FAILURE", MemoryError()) == (["worker-died"] if found else [])


@pytest.mark.parametrize(("limit", "found"), [(None, True), (3.0, True), (0.5, False)])
def test_a_timeout_of_gevents_is_the_tasks_own_unless_it_is_that_of_its_hard_limit(failing, limit, found):
    timeout = type("Timeout", (BaseException,), {"__module__": "gevent.timeout", "seconds": 0.5})
    assert failing("gevent", None, timeout(), limit=limit) == (["task-lost"] if found else [])


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads", "gevent", "eventlet"])
def test_only_what_cannot_be_stored_is_lost_of_what_celery_itself_has_failed_with(failing, pool):
    with pytest.raises(EncodeError) as raised:
        CacheBackend(app=Celery(), backend="memory").encode(object())
    assert failing(pool, None, raised.value) == []  # the arguments of a callback
    with pytest.raises(EncodeError) as raised:
        CacheBackend(app=Celery(), backend="memory").store_result("id", object(), "SUCCESS")
    assert failing(pool, None, raised.value) == ["task-lost"]
    assert failing(pool, None, ValueError("of on_failure")) == []


@pytest.mark.parametrize("cls", [Ignore, Reject])
@pytest.mark.parametrize(
    ("pool", "payload", "found"),
    [
        ("prefork", threading.Lock(), True),
        ("prefork", "why", False),
        ("threads", threading.Lock(), False),
    ],
)
def test_what_goes_with_ignore_and_reject_has_to_pass_from_a_child_to_the_main_process(cls, pool, payload, found):
    kinds = []
    watch = SimpleNamespace(
        pool=SimpleNamespace(forks=pools.pool(pool).forks),
        frames=Frames("/"),
        report=lambda kind, *_, **__: kinds.append(kind),
    )
    run = Run("id", SimpleNamespace(name="t.work", run=lambda: None), "about")
    Exceptions(watch).failed(run, "REJECTED" if cls is Reject else "IGNORED", cls(payload))
    assert kinds == (["not-picklable"] if found else [])


class FeedError(Exception):
    """Is pickled by its text, and needs two to be made."""

    def __init__(self, line, reason):
        super().__init__(f"line {line}: {reason}")


@pytest.mark.parametrize(
    ("payload", "end"),
    [
        (threading.Lock(), "which gets MaybeEncodingError instead and stores the task as failed"),
        (FeedError(1, "no price"), "which ends by that error as it reads it, with all of its children"),
    ],
)
def test_what_the_main_process_cannot_read_ends_it(payload, end):
    told = []
    watch = SimpleNamespace(
        pool=SimpleNamespace(forks=True),
        frames=Frames("/"),
        report=lambda _kind, _run, message, *_, **__: told.append(message),
    )
    run = Run("id", SimpleNamespace(name="t.work", run=lambda: None), "about")
    Exceptions(watch).failed(run, "REJECTED", Reject(payload, requeue=False))
    assert told[0].endswith(end)


def wait_for_ever():
    """As a function of atexit may."""


class Waiting:
    """Can be called, and waits for ever."""

    __call__ = wait_for_ever


@pytest.mark.parametrize("function", [wait_for_ever, functools.partial(wait_for_ever, *()), Waiting()])
def test_the_code_of_what_is_registered_with_atexit_is_told(function):
    assert _code_of(function) is wait_for_ever.__code__


def test_what_is_written_in_c_and_registered_with_atexit_has_no_code():
    assert _code_of(threading.Lock().acquire) is None


@pytest.mark.parametrize(("registered", "found"), [(["lock"], True), (["lock", "other"], False), ([], False)])
def test_a_function_in_c_that_the_process_waits_in_is_named_where_there_is_one(monkeypatch, registered, found):
    """It has no frame, so that of several nobody can tell which it is."""
    watch = SimpleNamespace(frames=Frames("/"), current=lambda: None, pool=SimpleNamespace(green=False))
    detector = ExitFunctions(watch)
    monkeypatch.setattr(detector._frames, "_main", -1)
    for _ in registered:
        detector._registers(None, threading.Lock().acquire)
    detector._registers(None, wait_for_ever)
    frame, function = detector._running()
    assert frame is None
    assert (function is not None) == found


class Stopping:
    """A worker that sends a signal, and what is seen while its receiver runs."""

    def __init__(self, green=False):
        self.told = []
        self.watch = SimpleNamespace(
            frames=Frames("/"),
            launch="subprocess",
            limit=lambda _kind: 1.0,
            pool=SimpleNamespace(green=green, name="solo"),
            report=lambda kind, _run, message, evidence, *_, **__: self.told.append((kind, message, evidence)),
            guarded=lambda _detector, function: function,
        )
        self.detector = StopReceivers(self.watch)

    def send(self, sent, receiver):
        sent.connect(receiver, weak=False)
        try:
            sent.send(sender=None)
        finally:
            sent.disconnect(receiver)


@pytest.mark.parametrize(
    ("sent", "found"),
    [(signals.worker_shutdown, True), (signals.worker_shutting_down, True), (signals.worker_ready, False)],
)
def test_the_receiver_that_a_worker_that_stops_is_in_is_found(monkeypatch, sent, found):
    stopping, seen = Stopping(), []
    monkeypatch.setattr(stop_receivers.originals, "start_new_thread", lambda *_: None)
    stopping.detector.stopping()

    def waits(**_):
        seen.append(stopping.detector._running())

    stopping.send(sent, waits)
    assert [each and each.code for each in seen] == [waits.__code__ if found else None]


def test_a_receiver_that_does_not_return_is_told_of_with_the_line_that_waits(monkeypatch):
    stopping, end = Stopping(), threading.Event()
    monkeypatch.setattr(stop_receivers, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(stop_receivers, "_POLL_S", 0.02)
    stopping.detector.stopping()
    deadline = time.monotonic() + 10

    def waits(**_):
        while not stopping.told and time.monotonic() < deadline:
            end.wait(0.05)

    stopping.send(signals.worker_shutdown, waits)
    stopping.detector.remove()
    ((kind, message, evidence),) = stopping.told
    assert kind == "shutdown-hangs"
    assert "waits, a receiver of worker_shutdown, has not returned" in message
    assert "in waits: end.wait(0.05)" in evidence[0]


def test_receivers_that_return_are_not_told_of(monkeypatch):
    stopping = Stopping()
    monkeypatch.setattr(stop_receivers, "_PATIENCE_S", 0.3)
    monkeypatch.setattr(stop_receivers, "_POLL_S", 0.02)
    stopping.detector.stopping()

    def flushes(**_):
        time.sleep(0.08)

    def closes(**_):
        time.sleep(0.08)

    receivers = [flushes, closes] * 4  # together they take longer than one may
    for number, receiver in enumerate(receivers):
        signals.worker_shutdown.connect(receiver, weak=False, dispatch_uid=f"{number}")
    try:
        signals.worker_shutdown.send(sender=None)
    finally:
        for number, receiver in enumerate(receivers):
            signals.worker_shutdown.disconnect(receiver, dispatch_uid=f"{number}")
    stopping.detector.remove()
    assert stopping.told == []


@pytest.mark.parametrize(
    ("number", "handled", "kinds"),
    [
        (signal.SIGUSR2, False, ["child-died"]),
        (signal.SIGUSR2, True, []),
        (signal.SIGCHLD, False, []),  # ends nobody
    ],
)
def test_a_signal_that_ends_whoever_has_no_handler_ends_a_child(number, handled, kinds):
    told = []
    run = Run("id", SimpleNamespace(name="t.work", run=lambda: None), "about")
    watch = SimpleNamespace(
        frames=Frames("/"),
        current=lambda: run,
        pool=SimpleNamespace(forks=True, name="prefork"),
        report=lambda kind, *_, **__: told.append(kind),
        running=lambda: [run],
    )
    detector = Endings(watch)
    detector._pid, detector._main = os.getpid(), os.getppid()
    before = signal.signal(number, (lambda *_: None) if handled else signal.SIG_DFL)
    try:
        detector._kills(os.getpid(), number)
    finally:
        signal.signal(number, before)
    assert told == kinds


@pytest.mark.parametrize(
    ("green", "executor", "waited"), [(False, False, True), (True, False, False), (True, True, True)]
)
def test_a_process_waits_for_every_thread_and_for_greenlets_of_executors(green, executor, waited):
    import concurrent.futures
    import threading

    from pytest_celerypool.agent.detectors.ends.shutdown import Shutdown, Started

    detector = object.__new__(Shutdown)
    detector._main = object() if green else None
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result(5)
        thread = next(iter(pool._threads)) if executor else threading.current_thread()
        assert detector._is_waited_for(Started(thread, "", "", "", [])) is waited
