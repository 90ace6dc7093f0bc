"""What tells a pool that fills from a leak: how many there must be, made in which way, by greenlets that are gone."""

import os
import pathlib
import sys
import threading
import types

import pytest

from pytest_celerypool.agent.detectors.leaks import processes
from pytest_celerypool.agent.detectors.leaks.files import Files
from pytest_celerypool.agent.detectors.leaks.processes import Processes
from pytest_celerypool.agent.detectors.leaks.remains import Left, Made, Remains
from pytest_celerypool.agent.detectors.leaks.threads import Threads
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

KIND = "leaked-socket"

#: A library below the user's code, with two ways to make something.
LIBRARY = """
def publish(make): make()
def subscribe(make): make()
"""


class Greenlet:
    """Stands for one; a task runs in each."""


class FakeWatch:
    """What a detector of leaks asks for, under a green pool whose greenlets the test makes and ends."""

    def __init__(self):
        self.pool = types.SimpleNamespace(name="gevent", green=True, forks=False)
        self.frames = Frames(os.path.dirname(__file__))
        self.greenlet = None
        self.recorder = types.SimpleNamespace(tracer=types.SimpleNamespace(getcurrent=lambda: self.greenlet))
        self.runs = []
        self.reported = []
        code = compile(LIBRARY, os.path.join(os.sep, "site-packages", "library.py"), "exec")
        self.library = {}
        exec(code, self.library)

    def current(self):
        return self.runs[-1]

    def running(self):
        return self.runs

    def on(self, kind):
        return True

    def limit(self, kind):
        return 3

    def report(self, kind, run, *_, **__):
        self.reported.append(kind)


class Everything(Remains):
    """Takes whatever is left behind often enough for a leak."""

    pooled = (KIND,)

    def grows(self, kind, task, left, *, last):
        return "it grows", [], "end it"


@pytest.fixture
def watch():
    return FakeWatch()


def run(number, name="tasks.charge"):
    return Run(f"id-{number}", types.SimpleNamespace(name=name), "")


def leaves(detector, made):
    """Note something; called by a function that the library calls."""
    detector.made(KIND, sys._getframe(2), "", lambda: True, lambda: made)


def leave(watch, detector, ways, number, beside=()):
    """Run a task that leaves something behind for each way to make it."""
    watch.greenlet = Greenlet()
    task = run(number)
    watch.runs = [*beside, task]
    for way in ways:
        watch.library[way](lambda: leaves(detector, None))
    detector.ended(task, "SUCCESS", None)
    watch.greenlet, watch.runs = None, []


def test_what_one_line_makes_in_the_same_way_grows(watch):
    detector = Everything(watch)
    for number in range(3):
        assert not watch.reported
        leave(watch, detector, ["publish"], number)
    assert watch.reported == [KIND]


def test_one_line_may_fill_two_pools(watch):
    detector = Everything(watch)
    for number, way in enumerate(("publish", "publish", "subscribe", "subscribe")):
        leave(watch, detector, [way], number)
    assert not watch.reported


def test_tasks_of_other_names_take_from_the_pools_of_libraries_too(watch):
    detector = Everything(watch)
    others = [run(f"other-{number}", "tasks.other") for number in range(2)]
    for number in range(4):
        leave(watch, detector, ["publish"], number, others)
    assert not watch.reported
    leave(watch, detector, ["publish"], 4, others)
    assert watch.reported == [KIND]


def kept_by_nobody_known(watch, gone):
    """Whether sockets that no global of the user's leads to are reported, of tasks whose greenlets are gone or not."""
    detector, kept = Files(watch), []
    for number in range(5):
        watch.greenlet = Greenlet()
        if not gone:
            kept.append(watch.greenlet)
        task = run(number)
        watch.runs = [task]
        made = types.SimpleNamespace(getpeername=lambda: "there", fileno=lambda: 3)
        watch.library["publish"](lambda made=made: leaves(detector, made))
        detector.ended(task, "SUCCESS", None)
        watch.greenlet = None
    detector.remove()
    return bool(watch.reported)


def test_what_a_greenlet_that_is_not_gone_holds_is_no_leak_yet(watch):
    assert not kept_by_nobody_known(watch, gone=False)


def test_what_stays_though_its_greenlet_is_gone_is_one(watch):
    assert kept_by_nobody_known(watch, gone=True)


def test_what_a_result_backend_of_celery_makes_is_not_the_tasks(watch):
    """Under gevent and eventlet Celery has one for each greenlet."""
    for folder, kinds in (("celery", []), ("salary", [KIND])):
        code = compile(LIBRARY, os.path.join(os.sep, "site-packages", folder, "backends", "redis.py"), "exec")
        exec(code, watch.library)
        detector = Everything(watch)
        for number in range(3):
            leave(watch, detector, ["publish"], number)
        assert watch.reported == kinds


# -- what all of a pool's tasks leave that run at once: as many as a pool of the project's would have


def loops(stop, begun):
    begun.set()
    while not stop.wait(0.05):
        pass


class Started:
    """Greenlets that run `loops`, in threads: what is asked of them is their frame."""

    def __init__(self, stops):
        self.threads, self.stops = [], stops
        for stop in stops:
            begun = threading.Event()
            thread = threading.Thread(target=loops, args=(stop, begun), daemon=True)
            thread.start()
            assert begun.wait(5)
            self.threads.append(thread)

    def end(self):
        for thread, stop in zip(self.threads, self.stops, strict=True):
            stop.set()
            thread.join(5)


def at_once(watch, monkeypatch, started, *, of_library=False):
    """Whether greenlets are reported that as many tasks have left as ran at once; the worker ends."""
    detector = Threads(watch)
    tasks = [run(number) for number in range(len(started.threads))]
    watch.greenlet = Greenlet()
    for task, thread in zip(tasks, started.threads, strict=True):
        watch.runs = [*(each for each in tasks if each is not task), task]
        detector.made("leaked-greenlet", sys._getframe(), "", thread.is_alive, lambda thread=thread: thread)
        detector.ended(task, "SUCCESS", None)
    reported_before = list(watch.reported)
    if of_library:
        monkeypatch.setattr(watch.frames, "user_frame", lambda _frame: None)
    detector.stopping()
    started.end()
    assert not reported_before
    return watch.reported


def test_greenlets_that_nobody_can_end_are_a_leak_however_many_tasks_ran_at_once(watch, monkeypatch):
    assert at_once(watch, monkeypatch, Started([threading.Event() for _ in range(4)])) == ["leaked-greenlet"]


def test_greenlets_whose_work_a_global_leads_to_may_be_a_pool_that_fills(watch, monkeypatch):
    module = types.ModuleType("users_pool")
    module.__file__ = __file__
    monkeypatch.setitem(sys.modules, "users_pool", module)
    module.stops = [threading.Event() for _ in range(4)]
    assert at_once(watch, monkeypatch, Started(module.stops)) == []


def test_of_two_lines_one_does_not_answer_for_the_other(watch, monkeypatch):
    """What one leaves is forsaken, what the other leaves a pool of the project's holds."""
    detector, stops = Threads(watch), [threading.Event() for _ in range(4)]
    module = types.ModuleType("users_pool")
    module.__file__, module.stops = __file__, stops[2:]
    monkeypatch.setitem(sys.modules, "users_pool", module)
    monkeypatch.setattr(watch, "limit", lambda _kind: 1)
    started = Started(stops)
    detector._peak["leaked-greenlet", "task"], detector.ending = 7, False

    def left(place, threads):
        made = [Made("leaked-greenlet", place, 0, [], "", bool, lambda each=each: each) for each in threads]
        return [Left(each, str(number), 1, bool, 0.0) for number, each in enumerate(made)]

    one = detector.needed("leaked-greenlet", "task", left("tasks.py:1", started.threads[:2]))
    other = detector.needed("leaked-greenlet", "task", left("tasks.py:2", started.threads[2:]))
    started.end()
    assert (one, other) == (1, 7)


def test_greenlets_that_run_a_librarys_code_may_be_taken_up_by_that(watch, monkeypatch):
    started = Started([threading.Event() for _ in range(4)])
    assert at_once(watch, monkeypatch, started, of_library=True) == []


def test_greenlets_that_were_told_to_end_are_no_leak(watch, monkeypatch):
    started = Started([threading.Event() for _ in range(4)])
    monkeypatch.setattr(threading.Event, "is_set", lambda _event: True)
    assert at_once(watch, monkeypatch, started) == []


@pytest.mark.parametrize(("green", "kept", "needed"), [(True, False, 3), (True, True, 9), (False, False, 9)])
def test_temporary_files_that_no_global_names_are_a_leak_however_many_tasks_ran_at_once(
    watch, monkeypatch, green, kept, needed
):
    watch.pool.green = green
    module = types.ModuleType("users_folders")
    module.__file__ = __file__
    module.folders = [pathlib.Path("/tmp/work-2")] if kept else ["/tmp/other"]
    monkeypatch.setitem(sys.modules, "users_folders", module)
    detector = Files(watch)
    detector._peak["leaked-temporary", "task"] = 7
    left = [
        Left(Made("leaked-temporary", "", 0, [], f"/tmp/work-{n}", bool, bool), str(n), 1, bool, 0.0) for n in range(4)
    ]
    assert detector.needed("leaked-temporary", "task", left) == needed


def test_processes_that_nobody_has_in_hand_are_a_leak_however_many_tasks_ran_at_once(watch):
    detector = Processes(watch)
    detector._peak["leaked-process", "task"] = 7
    for get, needed in ((lambda: None, 3), (lambda: "a Popen", 9), (processes._nothing, 9)):
        left = [Left(Made("leaked-process", "", 0, [], "", bool, get), str(n), 1, bool, 0.0) for n in range(4)]
        assert detector.needed("leaked-process", "task", left) == needed
