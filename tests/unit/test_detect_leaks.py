"""What tells a thread that ends by itself from one that does not, and a container that grows from one with a bound."""

import ast
import datetime
import http.client
import importlib
import itertools
import linecache
import logging
import queue
import socket
import sqlite3
import sys
import textwrap
import threading
import time
import types

import pytest

from pytest_celerypool.agent.detectors import holders
from pytest_celerypool.agent.detectors.code.endless import endless, endless_loop
from pytest_celerypool.agent.detectors.holders import Reached
from pytest_celerypool.agent.detectors.leaks.files import Files
from pytest_celerypool.agent.detectors.leaks.per_greenlet import PerGreenlet, is_dear
from pytest_celerypool.agent.detectors.leaks.processes import state_of
from pytest_celerypool.agent.detectors.leaks.remains import Left, Made
from pytest_celerypool.agent.detectors.leaks.threads import _waits_long
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

NUMBERS = itertools.count()


def loop_of(source):
    return next(node for node in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(node, ast.While))


@pytest.mark.parametrize(
    "source",
    [
        "while True: time.sleep(1)",
        "while 1:\n    try:\n        work()\n    except Exception:\n        pass",
        "while not stop.is_set(): work()",
        "while not self.stop.wait(0.1): pass",
        "while self.running: work()",
        "while not done: work()",
        "while self.state != STOPPED: work()",
        "while True:\n    if self.stopped:\n        break\n    work()",
        "while True:\n    for item in items:\n        if item:\n            break",
        "while running and not stop.is_set(): work()",
    ],
)
def test_a_loop_without_an_exit_of_its_own_does_not_end(source):
    assert endless_loop(loop_of(source))


@pytest.mark.parametrize(
    "source",
    [
        "while time.monotonic() < end: work()",
        "while not job.done(): time.sleep(1)",
        "while running:\n    running = work()",
        "while self.left > 0:\n    self.left -= 1",
        "while True:\n    if job.done():\n        break",
        "while True:\n    try:\n        return work()\n    except OSError:\n        time.sleep(1)",
        "while len(items): items.pop()",
    ],
)
def test_a_loop_that_may_end_by_itself_is_taken_to_end(source):
    assert endless_loop(loop_of(source)) is None


def run_in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_a_thread_is_judged_by_every_frame_of_its_stack():
    stop, inside = threading.Event(), threading.Event()

    def step():
        inside.set()
        stop.wait(5)

    def forever():
        while True:
            step()
            if stop.is_set():
                return

    def once():
        step()

    for function, expected in ((forever, "loops until a flag is set that nobody sets"), (once, None)):
        inside.clear()
        stop.clear()
        thread = run_in_thread(function)
        assert inside.wait(5)
        why = endless(sys._current_frames()[thread.ident])
        stop.set()
        thread.join(5)
        assert why == expected


@pytest.mark.parametrize("kind", ["head", "body"])
def test_a_loop_that_was_told_to_end_and_has_not_come_there_yet_ends(kind):
    stop, inside, on = threading.Event(), threading.Event(), threading.Event()

    def head():
        while not stop.is_set():
            inside.set()
            on.wait(5)

    def body():
        while True:
            if stop.is_set():
                break
            inside.set()
            on.wait(5)

    thread = run_in_thread({"head": head, "body": body}[kind])
    assert inside.wait(5)
    whys = [endless(sys._current_frames()[thread.ident])]
    stop.set()
    whys.append(endless(sys._current_frames()[thread.ident]))
    on.set()
    thread.join(5)
    assert whys == ["loops until a flag is set that nobody sets", None]


TAKERS = """
def takes(items, begun):
    begun.set()
    while True:
        item = items.get()
        if item is None:
            break

def takes_once(items, begun):
    begun.set()
    return items.get()

def waits_a_while(items, begun):
    begun.set()
    return items.get(timeout=5)
"""


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("takes", "waits for ever for an item of a queue"),
        ("takes_once", "waits for ever for an item of a queue"),
        ("waits_a_while", None),
    ],
)
def test_who_waits_for_a_queue_that_is_written_in_c_waits_as_for_any_other(tmp_path, function, why):
    """It has no frame of its own: the line of whoever takes from it tells."""
    (tmp_path / "takers.py").write_text(TAKERS)
    scope = {}
    exec(compile(TAKERS, str(tmp_path / "takers.py"), "exec"), scope)
    items, begun = queue.SimpleQueue(), threading.Event()
    thread = run_in_thread(lambda: scope[function](items, begun))
    assert begun.wait(5)
    frame = frame_at(thread, "items.get(")
    told = endless(frame)
    items.put(None)
    thread.join(5)
    assert told == why


def frame_at(thread, text):
    """Return the innermost frame of a thread once it has come to a line."""
    deadline = time.monotonic() + 5
    while True:
        frame = sys._current_frames()[thread.ident]
        if text in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            return frame
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_how_a_library_of_greenlets_waits_tells_nothing(tmp_path):
    """A loop that waits for a semaphore, be it with a limit: Timer of a green thread is in one."""
    source = "def wait(lock, inside):\n    while lock.counter == 0:\n        inside.set(); lock.gone.wait(5)\n"
    for folder, expected in (("site-packages/eventlet", False), ("site-packages/users", True)):
        path = tmp_path / folder / "semaphore.py"
        path.parent.mkdir(parents=True)
        path.write_text(source)
        scope = {}
        exec(compile(source, str(path), "exec"), scope)
        lock, inside = types.SimpleNamespace(counter=0, gone=threading.Event()), threading.Event()
        thread = run_in_thread(lambda lock=lock, inside=inside, wait=scope["wait"]: wait(lock, inside))
        assert inside.wait(5)
        why = endless(sys._current_frames()[thread.ident])
        lock.counter = 1
        lock.gone.set()
        thread.join(5)
        assert (why is not None) is expected


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Make a module of the user's from a text."""

    def make(source):
        path = tmp_path / "users_own.py"
        path.write_text(textwrap.dedent(source))
        made = types.ModuleType("users_own")
        made.__file__ = str(path)
        exec(compile(path.read_text(), str(path), "exec"), vars(made))
        monkeypatch.setitem(sys.modules, "users_own", made)
        holders.tree_of.cache_clear()
        return made

    return make


def reached(module, value):
    frames = Frames(module.__file__.rpartition("/")[0])
    return frames, next(holders.walk(frames, lambda one: one is value))


def test_what_a_global_holds_is_named_by_its_path(module):
    made = module("""
        class Pool:
            def __init__(self):
                self.idle = [[], {"a": object()}]

        pool = Pool()

        def use():
            return pool.idle
    """)
    frames, found = reached(made, made.pool.idle[1]["a"])
    assert found.path == "users_own.pool.idle[1]['a']"
    assert found.keys == ("a",)
    assert [place.partition(": ")[2] for place in holders.made_at(frames, found)] == [
        "pool = Pool()",
        'self.idle = [[], {"a": object()}]',
    ]
    assert any(place.endswith("return pool.idle") for place in holders.uses(frames, found, made.use))


def test_a_global_that_is_none_at_first_is_made_where_a_function_sets_it(module):
    made = module("""
        store = None

        def elsewhere():
            store = []
            return store

        def connect():
            global store
            store = object()

        connect()
    """)
    frames, found = reached(made, made.store)
    assert [place.partition(" in ")[2] for place in holders.made_at(frames, found)] == ["connect: store = object()"]


def test_what_a_bound_method_or_a_partial_holds_is_found(module):
    users = module("""
        import functools, random

        pick = functools.partial(random.Random(1).choice, "abc")
        draw = random.Random(2).random
    """)
    frames = Frames(users.__file__.rpartition("/")[0])
    paths = {one.path for one in holders.walk(frames, lambda value: type(value).__name__ == "Random")}
    assert paths == {"users_own.pick.<function>.__self__", "users_own.draw.__self__"}


def test_what_a_function_has_as_a_default_is_found_with_the_lines_that_add_to_it(module):
    users = module("""
        def collect(page, seen=[], *, sizes={}):
            seen.append(page)
            sizes[page] = len(page)
    """)
    frames, found = reached(users, users.collect.__defaults__[0])
    assert found.path == "users_own.collect.seen"
    assert holders.additions(frames, found) == ["users_own.py:3 in collect: seen.append(page)"]
    _, found = reached(users, users.collect.__kwdefaults__["sizes"])
    assert found.path == "users_own.collect.sizes"


def test_what_pytest_hangs_to_the_loggers_is_none_of_the_users(module, caplog):
    frames = Frames(module("").__file__.rpartition("/")[0])
    logging.getLogger().warning("kept by pytest")
    assert caplog.handler in logging.root.handlers
    assert not list(holders.walk(frames, lambda value: value is caplog.handler.records))


def test_the_lines_that_add_to_a_container_are_named_wherever_they_are(module):
    users = module("""
        class Grid:
            made = []

            def __init__(self):
                self.made.append(self)

            def total(self):
                return len(self.made)
    """)
    frames, found = reached(users, users.Grid.made)
    assert holders.additions(frames, found) == ["users_own.py:6 in __init__: self.made.append(self)"]


def test_proxies_of_celery_are_not_evaluated_while_looking(module):
    made = module("from celery import current_app, Celery\n")
    frames = Frames(made.__file__.rpartition("/")[0])
    list(holders.walk(frames, lambda one: False))


@pytest.mark.parametrize(
    ("body", "emptied"),
    [
        ("items.append(1)", False),
        ("return len(items)", False),
        ("items.pop(0)", True),
        ("items.clear()", True),
        ("del items[0]", True),
        ("del items[:-5]", True),
        ("items[:] = items[-5:]", True),
        ("global items; items = []", True),
    ],
)
def test_a_container_that_something_is_taken_out_of_is_known(module, body, emptied):
    made = module(f"items = []\n\ndef change():\n    {body}\n")
    _, found = reached(made, made.items)
    assert holders.is_emptied(found) is emptied


def test_a_child_that_nobody_waited_for_is_seen_without_waiting_for_it():
    import subprocess

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert state_of(process.pid) == "runs"
        process.stdin.close()
        while state_of(process.pid) == "runs":
            pass
        assert state_of(process.pid) == "ended"
        assert process.wait() == 1
    assert state_of(process.pid) == "gone"


class Session:
    """Stands for an object of the user's."""

    def __init__(self):
        self.token = "from the bank"


class Empty:
    """Another, which costs nothing to make."""


@pytest.mark.parametrize(
    ("value", "dear"),
    [
        (Session(), True),
        (Empty(), False),
        (http.client.HTTPConnection("nowhere"), True),
        (sqlite3.connect(":memory:"), True),
        ("tenant", False),
        ({"rates": 1}, False),
        (datetime.date(2026, 1, 1), False),
        (None, False),
    ],
)
def test_what_is_worth_keeping_is_an_object_that_no_expression_makes(value, dear):
    assert is_dear(value) is dear


LOCAL = """
import threading

local = threading.local()


class Session:
    def __init__(self):
        self.token = "from the bank"


def task():
    %s
    return local.session


def another():
    if not hasattr(local, "session"):
        local.session = Session()
"""


@pytest.mark.parametrize(
    ("body", "executions", "kinds"),
    [
        ("if not hasattr(local, 'session'): local.session = Session()", 3, ["rebuilt-per-greenlet"]),
        ("if not hasattr(local, 'session'): local.session = Session()", 2, []),
        ("local.session = Session()", 3, []),  # it is the task's own, and nothing is to be kept
        ("if not hasattr(local, 'session'): local.session = 'tenant'", 3, []),
    ],
)
def test_what_is_made_because_a_thread_has_none_is_told_of_if_each_task_makes_one(
    tmp_path, monkeypatch, body, executions, kinds
):
    name = f"users_local_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(LOCAL % body)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module(name)
    told = []
    detector = PerGreenlet(
        types.SimpleNamespace(
            frames=Frames(str(tmp_path)),
            pool=types.SimpleNamespace(name="gevent"),
            limit=lambda _kind: 3,
            report=lambda kind, *_, **__: told.append(kind),
            forget=lambda _task: None,
        )
    )

    def execute():  # in a thread of its own, as a greenlet has
        module.task()
        detector.ended(Run("id", types.SimpleNamespace(name="task", run=module.task), ""), "SUCCESS", None)

    for _ in range(executions):
        thread = threading.Thread(target=execute)
        thread.start()
        thread.join(5)
    assert told == kinds


@pytest.mark.parametrize(
    ("made", "long"),
    [(threading.Timer(30, print), True), (threading.Timer(29, print), False), (threading.Thread(target=print), False)],
)
def test_a_timer_of_half_a_minute_is_as_good_as_a_thread_that_does_not_end(made, long):
    assert (_waits_long(made) is not None) == long


@pytest.mark.parametrize(("registry", "told"), [(True, False), (False, True)])
def test_sockets_for_datagrams_are_a_leak_unless_each_has_a_key_of_its_own(registry, told):
    """Their own ends differ, which the system chooses: that tells nothing."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        left = [
            Left(Made("leaked-socket", "", 0, [], "", lambda: True, lambda each=each: each), str(number), 1, None, 0.0)
            for number, each in enumerate(sockets)
        ]
        detector = object.__new__(Files)
        detector.watch = types.SimpleNamespace(pool=types.SimpleNamespace(name="solo"))
        held = Reached(sockets, sys, "known", "users.known", {} if registry else sockets, ("a",) if registry else ())
        detector.holder_of = lambda _left: held
        assert (detector.grows("leaked-socket", "task", left, last=True) is not None) == told
    finally:
        for each in sockets:
            each.close()


def test_a_container_of_the_projects_own_class_is_filled_by_its_methods(tmp_path):
    file = tmp_path / "users_clients.py"
    file.write_text(
        "class Clients(dict):\n    def __missing__(self, name):\n        self[name] = found = object()\n"
        "        return found\n\n\nclients = Clients()\n"
    )
    module = types.ModuleType("users_clients")
    module.__file__ = str(file)
    exec(compile(file.read_text(), str(file), "exec"), vars(module))
    reached = Reached(module.clients, module, "clients", "users_clients.clients", None, ())
    (place,) = holders.additions(Frames(str(tmp_path)), reached)
    assert "in __missing__: self[name] = found = object()" in place


@pytest.mark.parametrize(
    ("kind", "dead", "held"),
    [("leaked-file", True, True), ("leaked-file", False, False), ("leaked-socket", True, False)],
)
def test_files_of_greenlets_that_have_ended_count_though_something_holds_these(kind, dead, held):
    """The frames of an exception do, under eventlet. Sockets may be those of the greenlet's own result backend."""
    detector = object.__new__(Files)
    detector._collections = 0
    detector.needed = lambda *_: 3
    greenlet = types.SimpleNamespace(dead=dead)
    made = types.SimpleNamespace(there=lambda: True)
    left = [Left(made, f"run {number}", 1, lambda: greenlet, 0.0) for number in range(3)]
    assert detector._is_held(kind, "t.work", left, last=True) is held
