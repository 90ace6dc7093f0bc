"""What the children of prefork are found not to know of one another, with the other child played by the test."""

import ast
import os
import sys
import textwrap
import time
import types
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from celery import Celery

from pytest_celerypool.agent.detectors.code.places import ABSENT, Scope, place_of
from pytest_celerypool.agent.detectors.sharing.changes import OBJECT, Change, text_of
from pytest_celerypool.agent.detectors.sharing.children import Children
from pytest_celerypool.agent.detectors.sharing.local_caches import LocalCaches
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

LIMITER = """
last_call = {"at": 0.0}


def call(now):
    last = last_call["at"]
    last_call["at"] = now
    return last
"""


QUOTA = """
last_call = {"at": 0}


def call(limit):
    if last_call["at"] >= limit:
        return "refused"
    last_call["at"] += 1
    return "done"
"""

STOCK = """
last_call = {"at": 0}


def call(limit):
    done = last_call["at"]
    if done >= limit:
        raise ValueError("no more")
    last_call["at"] = done + 1
"""

STATISTICS = """
last_call = {"at": 0}


def call(limit):
    last_call["at"] += 1
    if last_call["at"] >= limit:
        print(last_call)
"""


BEHIND_A_CHECK = """
last_call = {"at": 0}


def call(limit):
    if limit > 5:
        return "refused"
    last_call["at"] += 1
    return "done"
"""


class Child:
    """A child of prefork that runs a function of a module of the user's as a task."""

    def __init__(self, folder, monkeypatch, source=LIMITER):
        path = folder / "users_own.py"
        path.write_text(textwrap.dedent(source))
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


@pytest.mark.parametrize(
    ("source", "kinds"),
    [(QUOTA, ["state-per-child"]), (STOCK, ["state-per-child"]), (STATISTICS, []), (BEHIND_A_CHECK, [])],
)
def test_a_count_by_which_tasks_are_refused_is_each_childs_own(tmp_path, monkeypatch, source, kinds):
    """Both may have come to the same number."""
    child = Child(tmp_path, monkeypatch, source)
    try:
        child.end(child.start(3), 3)
        child.other_writes("1", time.monotonic())
        child.end(child.start(3), 3)
    finally:
        child.detector.remove()
    assert [kind for kind, _ in child.reported] == kinds


RATES = """
class Rates:
    table = {"EUR": 1.0}


last_call = Rates()
last_call.table = {"EUR": 1.0}


def call(key):
    return last_call.table[key]
"""


@pytest.mark.parametrize(
    ("before", "kinds"), [("{'EUR': 1.0}", ["cache-differs"]), ("{'EUR': 0.9}", [])], ids=["as here", "as nowhere"]
)
def test_settings_that_a_task_replaces_as_a_whole_are_old_in_the_other_children(tmp_path, monkeypatch, before, kinds):
    child = Child(tmp_path, monkeypatch, RATES)
    now = time.monotonic()
    try:
        owner = id(child.module.last_call)
        change = Change(os.getpid() + 1, "users_own.update", "", owner, "'table'", before, "{'EUR': 1.1}", now, now, "")
        child.detector.publish([change])
        child.end(child.start("EUR"), "EUR")
    finally:
        child.detector.remove()
    assert [kind for kind, _ in child.reported] == kinds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"EUR": 1.0}, "{'EUR': 1.0}"),
        (["a", 1], "['a', 1]"),
        ({"a": len}, OBJECT),
        ([[]], OBJECT),
        (dict.fromkeys(range(11)), OBJECT),
        ({"a"}, OBJECT),  # its order is not told
        (("a", 1), "('a', 1)"),
        (7, "7"),
        (ABSENT, "nothing"),
    ],
)
def test_small_containers_of_plain_values_are_compared_by_their_text(value, text):
    assert text_of(value) == text


# -- caches of the process


class Cache:
    """As much of Django's ``LocMemCache`` as is looked at."""

    def __init__(self):
        self._cache, self._expire_info = {}, {}

    def make_key(self, key, version=None):
        return f":{version or 1}:{key}"

    def put(self, key, expires=None):
        self._cache[self.make_key(key)] = "there"
        self._expire_info[self.make_key(key)] = expires


class CacheUser:
    """A child of prefork that runs one task, and what was reported there."""

    def __init__(self, folder, pid):
        self.pid, self.kinds, self.cache = pid, [], Cache()
        self.run = Run("id", SimpleNamespace(name="t.work"), ("id", "t.work", 0, pid, None))
        watch = SimpleNamespace(
            folder=str(folder),
            bind=lambda: None,
            frames=SimpleNamespace(
                user_frame=lambda: None, stack=lambda *_: ["tasks.py:1"], place=lambda _: "tasks.py:1"
            ),
            current=lambda: self.run,
            report=lambda kind, *_, **__: self.kinds.append(kind),
        )
        self.detector = LocalCaches(watch)

    def does(self, what, key, *, expires=None):
        """Do something with the cache, as a task does."""
        full = self.cache.make_key(key)
        with patch.object(os, "getpid", lambda: self.pid):
            if what == "get":
                self.detector._got(None, self.cache, key)
            elif what == "delete":
                self.cache._cache.pop(full, None)
                self.cache._expire_info.pop(full, None)
                self.detector._changed(True, self.cache, key)
            else:
                added = full not in self.cache._cache
                self.cache.put(key, expires)
                told = self.detector._added if what == "add" else self.detector._changed
                told(added, self.cache, key, "there", None)

    def ends(self):
        """End the task; returns what was reported of it."""
        with patch.object(os, "getpid", lambda: self.pid):
            self.detector.ended(self.run, "SUCCESS", None)
        return self.kinds


@pytest.fixture
def users(tmp_path):
    """Return two children of one worker."""
    both = [CacheUser(tmp_path, pid) for pid in (1, 2)]
    yield both
    for each in both:
        each.detector.remove()


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (["set"], ["get"], ["cache-differs"]),
        (["add"], ["get"], ["cache-differs"]),
        (["set"], ["get", "set"], []),  # a cache as it should be
        (["set"], ["get", "add"], []),  # get_or_set()
        (["set", "delete"], ["get"], []),
        ([], ["get"], []),
        (["set"], ["set", "get"], []),
        (["add"], ["add"], ["state-per-child"]),
        (["add", "delete"], ["add"], []),  # a lock that was given back
    ],
)
def test_what_one_child_looks_for_in_its_cache_and_another_has(users, first, second, found):
    for user, doings in zip(users, (first, second), strict=True):
        for what in doings:
            user.does(what, "key")
    assert users[1].ends() == found
    assert users[0].ends() == []


def test_what_has_expired_in_another_child_is_missed_by_nobody(users):
    users[0].does("set", "key", expires=time.time() - 1)
    users[1].does("get", "key")
    assert users[1].ends() == []


def test_a_tasks_proxy_in_its_module_is_the_task_itself():
    """What is set by the name of a task is what the task finds at itself."""
    app = Celery("proj", set_as_current=False)

    @app.task(name="proj.convert")
    def proxy(): ...

    node = ast.parse("convert.rates", mode="eval").body
    assert place_of(node, Scope({}, {"convert": proxy})).owner is proxy  # it is none of a finished application yet
    app.finalize()
    assert place_of(node, Scope({}, {"convert": proxy})).owner is app.tasks["proj.convert"]
