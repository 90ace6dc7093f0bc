"""What tells a pool that fills from a leak: how many there must be, made in which way, by greenlets that are gone."""

import os
import sys
import types

import pytest

from pytest_celerypool.agent.detectors.leaks.files import Files
from pytest_celerypool.agent.detectors.leaks.remains import Remains
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
