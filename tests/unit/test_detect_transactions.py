"""When tasks that have one connection of sqlite3 are told of."""

import itertools
import sys
import threading
import time
import types

import greenlet
import pytest

from pytest_celerypool.agent.detectors.code.places import Sources
from pytest_celerypool.agent.detectors.sharing.transactions import Transactions, sends_without_lock
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

NUMBERS = itertools.count()

SOURCE = """
import sqlite3, threading

books = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
lock = threading.Lock()


def book():
    books.execute("insert")


def guarded():
    with lock:
        books.execute("insert")


def other():
    return 1


def connection():
    with lock:
        return books


def sends_in_the_open():
    database = connection()
    cursor = database.cursor()
    cursor.execute("insert")


def sends_through_a_helper(job):
    job.execute()
    guarded()
    job.commit()


def sends_directly():
    with lock:
        other()
    books.commit()


def sends_behind_an_acquire():
    lock.acquire()
    books.commit()


class Shelf:
    def __init__(self):
        self.turn, self.books = threading.Lock(), None

    def open(self):
        self.books = self.books or books
        return self.books

    def add(self):
        self.open().execute("insert")

    def add_in_turn(self):
        with self.turn:
            self.add()


shelf = Shelf()


def by_a_method():
    shelf.add()


def by_a_guarded_method():
    shelf.add_in_turn()


class Shelves:
    def __init__(self):
        self.opening, self.opened = threading.Lock(), {}

    def __getitem__(self, name):
        with self.opening:
            return self.opened.setdefault(name, books)


shelves = Shelves()


def by_an_item(goes_on):
    database = shelves["one"]
    database.execute("select 1")
    goes_on()


def by_an_item_in_turn(goes_on):
    database = shelves["one"]
    with lock:
        database.execute("select 1")
    goes_on()


def by_itself(self):
    self.db.execute("insert")
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module, whose tasks are never run: what they say is what counts."""
    name = f"users_books_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__(name)
    yield module
    module.books.close()
    del sys.modules[name]


class Told:
    """The detector under a pool, and the kinds that it has reported."""

    def __init__(self, tmp_path, module, green):
        self.kinds = []
        self.runs = []
        self.slots = {}
        self.module = module
        self.failed = []
        self.detector = Transactions(
            types.SimpleNamespace(
                frames=Frames(str(tmp_path)),
                pool=types.SimpleNamespace(name="gevent" if green else "threads", green=green),
                bind=lambda: None,
                running=lambda: list(self.runs),
                recorder=types.SimpleNamespace(running=self.slots),
                report=lambda kind, *_, **__: self.kinds.append(kind),
                switch_off=lambda _detector, exc: self.failed.append(exc),
            )
        )

    def run(self, name):
        return Run(name, types.SimpleNamespace(name=f"books.{name}", run=getattr(self.module, name)), "")

    def start(self, name):
        self.runs.append(self.run(name))
        self.detector.started(self.runs[-1])

    def until_told(self):
        end = time.monotonic() + 5
        while not self.kinds and time.monotonic() < end:
            time.sleep(0.005)

    def ends(self):
        """Wait until nobody looks any more."""
        self.runs.clear()
        end = time.monotonic() + 5
        while self.detector._lookout.looking and time.monotonic() < end:
            time.sleep(0.005)
        assert not self.detector._lookout.looking
        assert self.failed == []


@pytest.mark.parametrize(
    ("name", "sends"),
    [
        ("sends_in_the_open", True),
        ("sends_directly", True),
        ("by_an_item", True),
        ("by_an_item_in_turn", False),
        ("guarded", False),
        ("sends_through_a_helper", False),
        ("sends_behind_an_acquire", False),
    ],
)
def test_only_statements_on_the_modules_connection_outside_of_a_lock_count(module, name, sends):
    assert sends_without_lock(getattr(module, name), Sources()) is sends


@pytest.mark.parametrize("green", [True, False])
def test_a_task_that_begins_in_the_transaction_of_another_is_told_of(tmp_path, module, green):
    told = Told(tmp_path, module, green)
    told.start("book")
    module.books.execute("begin")
    told.start("book")
    told.ends()
    assert told.kinds == ["transaction-shared"]


def test_threads_that_begin_before_the_first_statement_are_told_of_once_there_is_a_transaction(tmp_path, module):
    told = Told(tmp_path, module, green=False)
    told.start("book")
    told.start("book")
    assert told.kinds == []
    module.books.execute("begin")
    told.until_told()
    told.ends()
    assert told.kinds == ["transaction-shared"]


def test_threads_that_begin_before_the_connection_is_there_are_told_of(tmp_path, module):
    opened, module.books = module.books, None
    told = Told(tmp_path, module, green=False)
    told.start("book")
    told.start("book")
    opened.execute("begin")
    module.books = opened
    told.until_told()
    told.ends()
    assert told.kinds == ["transaction-shared"]


def test_threads_that_run_as_the_first_connection_is_opened_are_told_of(tmp_path, module):
    opened, module.books = module.books, None
    told = Told(tmp_path, module, green=False)
    told.runs += [told.run("book"), told.run("book")]  # nobody was told of their beginning
    told.detector._connects()
    opened.execute("begin")
    module.books = opened
    told.until_told()
    told.ends()
    assert told.kinds == ["transaction-shared"]


def test_nobody_looks_where_tasks_have_no_connection_in_common(tmp_path, module):
    told = Told(tmp_path, module, green=False)
    told.start("other")
    told.start("other")
    told.start("book")
    assert not told.detector._lookout.looking


@pytest.mark.parametrize("names", [("book",), ("book", "other"), ("guarded", "guarded")])
def test_a_task_alone_on_its_connection_or_behind_a_lock_is_not_told_of(tmp_path, module, names):
    told = Told(tmp_path, module, green=False)
    module.books.execute("begin")
    for name in names:
        told.start(name)
    time.sleep(0.02)
    told.ends()
    assert told.kinds == []


@pytest.mark.parametrize(
    ("green", "statement"),
    [
        # A statement gives up the interpreter's lock: from outside a transaction is seen that no other greenlet sees.
        (True, "begin"),
        (False, "select 1"),
    ],
)
def test_nothing_is_told_where_no_task_can_have_met_a_transaction(tmp_path, module, green, statement):
    told = Told(tmp_path, module, green)
    told.start("book")
    told.start("book")
    module.books.execute(statement)
    time.sleep(0.05)
    told.ends()
    assert told.kinds == []


@pytest.mark.parametrize(("name", "kinds"), [("by_a_method", ["transaction-shared"]), ("by_a_guarded_method", [])])
@pytest.mark.parametrize("green", [True, False])
def test_the_connection_may_be_an_attribute_that_methods_use(tmp_path, module, green, name, kinds):
    told = Told(tmp_path, module, green)
    module.shelf.open()
    told.start(name)
    module.books.execute("begin")
    told.start(name)
    told.ends()
    assert told.kinds == kinds


@pytest.mark.parametrize(("name", "kinds"), [("by_an_item", ["transaction-shared"]), ("by_an_item_in_turn", [])])
@pytest.mark.parametrize("statement", ["begin", "select 1"])
@pytest.mark.parametrize("green", [True, False])
def test_two_tasks_that_hold_one_connection_in_variables_have_it_in_common(
    tmp_path, module, green, name, kinds, statement
):
    """However they came by it; greenlets are looked at while they wait."""
    told = Told(tmp_path, module, green)
    told.detector.listen = lambda _: None
    told.runs += [told.run(name), told.run(name)]
    function, end = getattr(module, name), threading.Event()
    if green:
        slots = [greenlet.greenlet(function) for _ in told.runs]
        for slot in slots:
            slot.switch(greenlet.getcurrent().switch)
    else:
        threads = [threading.Thread(target=function, args=(end.wait,)) for _ in told.runs]
        for thread in threads:
            thread.start()
        slots = [thread.ident for thread in threads]
    told.slots.update(zip(slots, told.runs, strict=True))
    told.detector.started(told.runs[-1])
    module.books.execute(statement)
    time.sleep(0.2)
    end.set()
    for each in slots if green else threads:
        each.throw() if green else each.join(5)
    told.ends()
    assert told.kinds == (kinds if statement == "begin" else [])


class Proxy:
    """As those of frameworks are, which raise where there is nothing to stand for."""

    def __getattribute__(self, name):
        raise RuntimeError("working outside of a context")


def test_a_proxy_is_not_asked_what_it_stands_for(tmp_path, module):
    module.lock = Proxy()
    told = Told(tmp_path, module, green=True)
    told.start("guarded")
    told.start("guarded")
    assert told.kinds == []


class Store:
    """A task of a base class that keeps a connection, each task of it one."""

    name = "place"

    def __init__(self, module):
        self.db = module.sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self.run = module.by_itself


@pytest.mark.parametrize(("same", "kinds"), [(True, ["transaction-shared"]), (False, [])])
def test_a_connection_of_a_task_is_its_own_executions(tmp_path, module, same, kinds):
    told = Told(tmp_path, module, green=True)
    first, second = Store(module), Store(module)
    second.db.execute("begin")
    for task in (first, first if same else second):
        told.runs.append(Run(task.name, task, ""))
        told.detector.started(told.runs[-1])
        if not task.db.in_transaction:
            task.db.execute("begin")
    told.ends()
    assert told.kinds == kinds
    for task in (first, second):
        task.db.close()
