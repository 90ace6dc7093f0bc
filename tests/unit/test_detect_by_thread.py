"""What programs keep under the number, the name or the object of a thread, where each task is a thread of its own."""

import importlib
import itertools
import sys
import threading
import time
import types
from unittest import mock

import pytest

from pytest_celerypool.agent.detectors.holders import user_modules
from pytest_celerypool.agent.detectors.leaks import by_thread
from pytest_celerypool.agent.detectors.leaks.by_thread import ByThread
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

NUMBERS = itertools.count()

HEAD = """
import functools, threading, weakref
from threading import current_thread, get_ident

class Client:
    def __init__(self, thread=None):
        self.thread = thread
"""

KEPT = {
    "number": """
clients = {}
def task():
    clients[get_ident()] = Client()
""",
    "name": """
clients = {}
def task():
    clients[current_thread().name] = Client()
""",
    "object, in a class": """
class Clients:
    known = {}
def task():
    Clients.known.setdefault(current_thread(), Client())
""",
    "one of several things, in an object": """
class Clients:
    def __init__(self):
        self.known = {}
clients = Clients()
def task():
    clients.known["host", get_ident()] = Client()
""",
    "argument of a cached function": """
@functools.cache
def client(number):
    return Client()
def task():
    client(get_ident())
""",
    "weak key that its value holds": """
clients = weakref.WeakKeyDictionary()
def task():
    clients[current_thread()] = Client(current_thread())
""",
}

INNOCENT = {
    "taken out": """
clients = {}
def task():
    clients[get_ident()] = Client()
    clients.pop(get_ident())
""",
    "bounded": """
@functools.lru_cache(maxsize=8)
def client(number):
    return Client()
def task():
    client(get_ident())
""",
    "for each tenant": """
clients = {}
def task():
    get_ident()
    clients.setdefault("acme", Client())
""",
}

WEAK = """
clients = weakref.WeakKeyDictionary()
def task():
    clients[current_thread()] = Client()
"""


class Greenlet:
    """As long as its task runs it is not dead."""

    dead = False


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs the task of a module so many times, each in a thread of its own as in a greenlet; returns what is told."""

    def run(source, executions=4, at_once=True, gone=True):
        name = f"users_threads_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(HEAD + source)
        monkeypatch.syspath_prepend(str(tmp_path))
        module = importlib.import_module(name)
        told, greenlets, begun = [], [], []
        watch = types.SimpleNamespace(
            frames=Frames(str(tmp_path)),
            limit=lambda _kind: 3,
            pool=types.SimpleNamespace(name="gevent"),
            recorder=types.SimpleNamespace(key=lambda: greenlets[-1]),
            report=lambda kind, *about, **_: told.append((kind, about[1], about[2])),
            bind=lambda: None,
        )
        detector = ByThread(watch)
        detector.begin()
        ended = detector.ended if "ended" not in detector.resting else lambda *_: None
        end = threading.Event()  # a number is given again when its thread has ended
        if not at_once:
            end.set()

        def execution(number, done):
            module.task()
            task = types.SimpleNamespace(name="task", run=module.task)
            ended(Run(f"run{number}", task, ""), "SUCCESS", None)
            done.set()
            end.wait(10)

        for number in range(executions):
            greenlets.append(Greenlet())
            done = threading.Event()
            begun.append(threading.Thread(target=execution, args=(number, done)))
            begun[-1].start()
            assert done.wait(10)
            if not at_once:
                begun.pop().join(10)
            greenlets[-1].dead = gone
        end.set()
        while begun:
            begun.pop().join(10)
        time.sleep(by_thread._SETTLED_AT_END_S)
        detector.stopping()
        del sys.modules[name]
        return told

    return run


@pytest.mark.parametrize("source", KEPT.values(), ids=KEPT)
def test_what_is_kept_for_greenlets_that_are_gone_is_found_wherever_it_is(execute, source):
    ((kind, message, evidence),) = execute(source)
    assert kind == "kept-per-greenlet"
    assert ".data" not in message
    assert any(" in task: " in line for line in evidence)


@pytest.mark.parametrize("source", INNOCENT.values(), ids=INNOCENT)
def test_what_is_taken_out_or_is_no_threads_own_is_not_told_of(execute, source):
    assert execute(source) == []


def test_a_weak_mapping_lets_go_of_a_thread_that_is_gone(execute):
    assert execute(WEAK, at_once=False) == []


def test_a_weak_mapping_may_still_have_what_its_library_has_not_dropped_yet(execute, monkeypatch):
    monkeypatch.setattr(ByThread, "stopping", lambda _detector: None)
    assert execute(WEAK) == []


def test_what_greenlets_have_that_still_run_is_in_use(execute):
    assert execute(KEPT["number"], gone=False) == []


def test_two_are_not_enough(execute):
    assert execute(KEPT["number"], executions=2) == []


def test_a_project_that_never_asks_for_its_thread_costs_nothing(tmp_path):
    (tmp_path / "users_own.py").write_text("def task(): pass\n")
    module = types.ModuleType("users_own")
    module.__file__ = str(tmp_path / "users_own.py")
    detector = ByThread(types.SimpleNamespace(frames=Frames(str(tmp_path)), bind=lambda: None))
    with mock.patch.dict(sys.modules, {"users_own": module}):
        detector._files = {str(each.__file__) for each in user_modules(detector.watch.frames) if each is not module}
        detector.begin()
        assert "ended" in detector.resting
        (tmp_path / "users_later.py").write_text("from threading import get_ident\n")
        later = types.ModuleType("users_later")
        later.__file__ = str(tmp_path / "users_later.py")
        sys.modules["users_later"] = later
        detector.imported()
        assert "ended" not in detector.resting
