"""Which locks a function has and waits for, read from where it stands; and who waits for whom."""

import ast
import importlib
import itertools
import sys
import textwrap
import threading
import time
import types

import pytest

from pytest_celerypool.agent.detectors.code.places import UNKNOWN
from pytest_celerypool.agent.detectors.code.standing import Reader
from pytest_celerypool.agent.detectors.sharing import deadlocks
from pytest_celerypool.agent.detectors.sharing.deadlocks import (
    Deadlocks,
    Held,
    LocksOfFrames,
    Waiting,
    _is_asking,
    circles,
    is_lock,
)
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

NUMBERS = itertools.count()

HEAD = """
import threading

a, b, c = threading.Lock(), threading.Lock(), threading.RLock()
locks = {"a": a, "b": b}

"""


@pytest.fixture
def stuck(tmp_path, monkeypatch):
    """Runs a function of a module that is given as text until it stands still; some locks are taken beforehand."""
    ended = []

    def run(source, *args, taken=("b",)):
        name = f"users_locks_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(HEAD + textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(tmp_path))
        module = importlib.import_module(name)
        for lock in taken:
            getattr(module, lock).acquire()
        thread = threading.Thread(target=module.task, args=args)
        thread.start()
        ended.append((thread, [getattr(module, lock) for lock in taken]))
        frame = stands(thread)
        found = LocksOfFrames(Reader(Frames(str(tmp_path)))).waiting(run_of("task"), (0, 0), frame)
        return module, found

    yield run
    for thread, locks in ended:
        for lock in locks:
            lock.release()
        thread.join(5)
        assert not thread.is_alive()


def run_of(name):
    return Run("id", types.SimpleNamespace(name=name), "")


def stands(thread):
    """The innermost frame of a thread that does not go on any more."""
    before, same = None, 0
    end = time.monotonic() + 5
    while time.monotonic() < end:
        frame = sys._current_frames()[thread.ident]
        here = id(frame), frame.f_lasti, frame.f_code.co_name
        same = same + 1 if here == before else 0
        if same > 10 and frame.f_code.co_filename.startswith(frame.f_globals.get("__file__", "-")):
            return frame
        before = here
        time.sleep(0.005)
    raise AssertionError("it does not stand still")


def test_the_lock_of_a_with_statement_is_waited_for_and_those_around_it_are_held(stuck):
    module, found = stuck("""
        def task():
            with a:
                inner()

        def inner():
            with b:
                pass
    """)
    assert found.wants.lock is module.b
    assert [held.lock for held in found.has] == [module.a]
    assert "in inner: with b:" in found.wants.place


@pytest.mark.parametrize(("order", "taken", "wanted", "has"), [("a, b", "b", "b", ["a"]), ("b, a", "b", "b", [])])
def test_of_several_items_the_one_that_is_entered_is_waited_for(stuck, order, taken, wanted, has):
    module, found = stuck(
        f"""
        def task():
            with {order}:
                pass
        """,
        taken=(taken,),
    )
    assert found.wants.lock is getattr(module, wanted)
    assert [held.lock for held in found.has] == [getattr(module, name) for name in has]


@pytest.mark.parametrize(("names", "has"), [(("a", "b"), ["a"]), (("b",), [])])
def test_locks_that_were_entered_on_a_stack_are_held(stuck, names, has):
    module, found = stuck(
        """
        import contextlib

        def task(*names):
            with contextlib.ExitStack() as stack:
                for name in names:
                    stack.enter_context(locks[name])
        """,
        *names,
    )
    assert found.wants.lock is module.b
    assert [held.lock for held in found.has] == [getattr(module, name) for name in has]


HOLDING = """
        import contextlib

        @contextlib.contextmanager
        def holding(name, patience=5):
            if not locks[name].acquire(timeout=patience):
                raise TimeoutError
            try:
                yield
            finally:
                locks[name].release()
"""


@pytest.mark.parametrize(
    "body",
    [
        "with holding('a'), holding('b'):\n                pass",
        "with contextlib.ExitStack() as stack:\n                for name in locks: stack.enter_context(holding(name))",
    ],
)
def test_a_context_manager_that_is_a_generator_holds_what_it_acquires_before_it_yields(stuck, body):
    module, found = stuck(f"{HOLDING}\n        def task():\n            {body}\n")
    assert found.wants.lock is module.b
    assert [held.lock for held in found.has] == [module.a]


LOGS = """
import logging

class Audit(logging.Handler):
    def emit(self, record):
        if record.msg == "waits":
            with b:
                pass

audit = Audit()
handler_lock = audit.lock
log = logging.getLogger(__name__)
log.addHandler(audit)
log.propagate = False
"""


def test_who_logs_waits_for_the_lock_of_the_handler(stuck):
    module, found = stuck(
        LOGS
        + """
def task():
    with a:
        log.warning("anything")
""",
        taken=("handler_lock",),
    )
    assert (found.wants.lock, found.wants.text) == (module.handler_lock, "the lock of Audit")
    assert "in task: log.warning" in found.wants.place
    assert [held.lock for held in found.has] == [module.a]


def test_who_is_in_a_filter_of_a_handler_does_not_wait_for_its_lock(stuck):
    module, found = stuck(
        LOGS
        + """
done = threading.Event()
audit.addFilter(lambda record: done.wait(5))

def task():
    log.warning("anything")
""",
        taken=(),
    )
    module.done.set()
    assert found is None


def test_who_waits_in_a_handler_has_its_lock(stuck):
    module, found = stuck(
        LOGS
        + """
def task():
    log.warning("waits")
"""
    )
    assert found.wants.lock is module.b
    assert [held.lock for held in found.has] == [module.handler_lock]


def test_what_was_acquired_and_not_released_is_held(stuck):
    module, found = stuck("""
        def task():
            c.acquire()
            c.release()
            a.acquire()
            try:
                b.acquire()
                b.release()
            finally:
                a.release()
    """)
    assert found.wants.lock is module.b
    assert [held.lock for held in found.has] == [module.a]


def test_a_manager_of_the_users_holds_the_lock_that_it_acquires(stuck):
    module, found = stuck("""
        class Model:
            def __init__(self, lock):
                self.lock = lock

            def __enter__(self):
                if not self.lock.acquire(timeout=5):
                    raise TimeoutError

            def __exit__(self, *_):
                self.lock.release()

        models = {"one": Model(a), "two": Model(b)}

        def task():
            with models["one"], models["two"]:
                pass
    """)
    assert found.wants.lock is module.b
    assert [held.lock for held in found.has] == [module.a]


@pytest.mark.parametrize(
    ("call", "waits"),
    [
        ("lock.acquire()", True),
        ("lock.acquire(True)", True),
        ("lock.acquire(timeout=1)", True),
        ("lock.acquire(False)", False),
        ("lock.acquire(blocking=False)", False),
        ("lock.acquire(0)", False),
    ],
)
def test_who_only_asks_does_not_wait(call, waits):
    assert _is_asking(ast.parse(call, mode="eval").body) is not waits


def test_a_lock_that_a_function_looks_up_is_known(stuck):
    module, found = stuck(
        """
        class Shelf:
            def lock_of(self, name):
                return locks.setdefault(name, threading.Lock())

        shelf = Shelf()

        def task(first, second):
            with shelf.lock_of(first):
                with shelf.lock_of(second):
                    pass
        """,
        "a",
        "b",
    )
    assert found.wants.lock is module.b
    assert [held.lock for held in found.has] == [module.a]


def test_conditions_and_what_is_no_lock_of_threads_are_none():
    taken = threading.RLock()
    with taken:
        assert is_lock(taken)
    assert not is_lock(taken)
    condition = threading.Condition()
    with condition:
        assert not is_lock(condition)
    assert not is_lock(UNKNOWN)
    assert not is_lock(types.SimpleNamespace(acquire=print, release=print))


def waits(name, wants, *has):
    lock = lambda each: Held(each, each, "")  # noqa: E731
    return Waiting(run_of(name), (0, 0), lock(wants), tuple(map(lock, has)), ())


def test_circles_are_found_once_whoever_else_waits():
    one, two, three = waits("one", "b", "a"), waits("two", "c", "b"), waits("three", "a", "c")
    beside, alone = waits("beside", "a"), waits("alone", "z", "y")
    assert circles([beside, one, two, three, alone]) == [[one, two, three]]


def test_a_lock_that_two_have_makes_no_circle():
    assert circles([waits("one", "b", "a"), waits("two", "a", "b"), waits("three", "z", "b")]) == []


def test_who_waits_for_its_own_lock_makes_no_circle():
    assert circles([waits("one", "a", "a")]) == []


@pytest.mark.parametrize(("moves", "kinds"), [(False, ["deadlock"]), (True, [])])
def test_a_circle_is_told_of_only_if_nobody_in_it_goes_on(monkeypatch, moves, kinds):
    """Who waits with a short time limit stands at the same place again and again, and at others in between."""
    told = []
    watch = types.SimpleNamespace(
        frames=Frames("/"),
        pool=types.SimpleNamespace(name="threads"),
        recorder=types.SimpleNamespace(running={}),
        report=lambda kind, *_, **__: told.append(kind),
    )
    one, two = waits("one", "b", "a"), waits("two", "a", "b")
    frame = types.SimpleNamespace(f_lasti=0)
    one, two = (each._replace(at=(id(frame), 0)) for each in (one, two))

    def stand(_running, runs):
        if moves:
            frame.f_lasti += 1
        return [(run, frame) for run in runs]

    monkeypatch.setattr(deadlocks, "frames_of", stand)
    Deadlocks(watch)._report([one, two])
    assert told == kinds
