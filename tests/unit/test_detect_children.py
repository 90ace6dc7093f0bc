"""What the children of prefork are found not to know of one another, with the other child played by the test."""

import os
import sys
import textwrap
import time
import types

import pytest

from pytest_celerypool.agent.detectors.sharing.changes import Change
from pytest_celerypool.agent.detectors.sharing.children import Children
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

LIMITER = """
last_call = {"at": 0.0}


def call(now):
    last = last_call["at"]
    last_call["at"] = now
    return last
"""


class Child:
    """A child of prefork that runs a function of a module of the user's as a task."""

    def __init__(self, folder, monkeypatch):
        path = folder / "users_own.py"
        path.write_text(textwrap.dedent(LIMITER))
        self.module = types.ModuleType("users_own")
        self.module.__file__ = str(path)
        exec(compile(path.read_text(), str(path), "exec"), vars(self.module))
        monkeypatch.setitem(sys.modules, "users_own", self.module)
        self.folder = str(folder)
        self.frames = Frames(str(folder))
        self.pool = types.SimpleNamespace(name="prefork", forks=True, green=False)
        self.reported = []
        self.detector = Children(self)
        self.began = []

    def report(self, kind, _run, message, *_, **__):
        self.reported.append((kind, message))

    def start(self, *args):
        request = types.SimpleNamespace(args=args, kwargs={})
        stack = types.SimpleNamespace(top=request)
        task = types.SimpleNamespace(name="users_own.call", run=self.module.call, request_stack=stack)
        run = Run("id", task, "")
        self.detector.started(run)
        self.began.append(time.monotonic())
        return run

    def end(self, run, *args):
        self.module.call(*args)
        self.detector.ended(run, "SUCCESS", None)

    def other_writes(self, value, began):
        """Another child has ended a task that wrote a value, just now."""
        owner = id(self.module.last_call)
        now = time.monotonic()
        self.detector.publish(
            [Change(os.getpid() + 1, "users_own.call", "", owner, "'at'", "0.0", value, began, now, "")]
        )


@pytest.fixture
def child(tmp_path, monkeypatch):
    made = Child(tmp_path, monkeypatch)
    yield made
    made.detector.remove()


def test_a_child_that_only_one_has_written_in_is_fine(child):
    for value in (1.0, 2.0):
        child.end(child.start(value), value)
    assert not child.reported


def test_what_another_child_wrote_before_is_missing_here(child):
    child.other_writes("7.0", time.monotonic())
    child.end(child.start(1.0), 1.0)
    assert [kind for kind, _ in child.reported] == ["state-per-child"]


def test_children_in_step_show_it_too(child):
    """Both begin before either has written, again and again."""
    first = child.start(1.0)
    child.other_writes("7.0", child.began[0])
    child.end(first, 1.0)
    assert not child.reported
    child.end(child.start(2.0), 2.0)
    assert [kind for kind, _ in child.reported] == ["state-per-child"]
    assert "last_call['at'] was 1.0 in this child, but 7.0 in another" in child.reported[0][1]
