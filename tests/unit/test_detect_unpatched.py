"""What a green pool has removed or has not patched is told from what was never there, and from what harms nobody."""

import _thread
import sys
import threading
import types

import pytest

from pytest_celerypool.agent.detectors.hub import explained
from pytest_celerypool.agent.detectors.hub.explained import Removed, removed_by
from pytest_celerypool.agent.detectors.hub.unpatched import Unpatched
from pytest_celerypool.agent.detectors.hub.unpatched_types import telling
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run


def raised(code):
    try:
        exec(code, {})
    except (AttributeError, ImportError) as exc:
        return exc
    raise AssertionError(f"{code} raised nothing")


@pytest.fixture
def pruned(monkeypatch):
    """A module of which a library has removed something, as gevent would have noted it."""
    module = types.ModuleType("select_like")
    monkeypatch.setitem(sys.modules, "select_like", module)
    monkeypatch.setattr(explained, "_original_of_gevent", lambda asked: asked == Removed("select_like", "epoll"))


@pytest.mark.parametrize("code", ["import select_like; select_like.epoll()", "from select_like import epoll"])
@pytest.mark.usefixtures("pruned")
def test_what_a_library_has_removed_is_told(code):
    assert removed_by(raised(code), "gevent") == Removed("select_like", "epoll")


@pytest.mark.parametrize(
    ("code", "pool"),
    [
        ("import select_like; select_like.poll()", "gevent"),  # never there
        ("import select_like; select_like.epoll()", "threads"),  # a pool without a library
        ("from select_like import poll", "gevent"),
        ("(1).epoll", "gevent"),  # no module
    ],
)
@pytest.mark.usefixtures("pruned")
def test_what_was_never_there_is_not(code, pool):
    assert removed_by(raised(code), pool) is None


RAW = """
import os, socket

def ask(read):
    ours, theirs = socket.socketpair()
    ours.settimeout(0.0)  # as a green library does behind the user's back
    with ours, theirs:
        return read(ours)

def raw(ours):
    return os.readv(ours.fileno(), [bytearray(4)])

def own(ours):
    return ours.recv(4)

%s
"""


@pytest.mark.parametrize(
    ("read", "more", "kinds"), [("raw", "", ["unpatched"]), ("own", "", []), ("raw", "os.set_blocking", [])]
)
def test_a_raw_read_of_what_the_library_has_made_non_blocking_is_told(tmp_path, read, more, kinds):
    (tmp_path / "raw.py").write_text(RAW % more)
    module, told = {"__name__": "raw"}, []
    exec(compile(RAW % more, str(tmp_path / "raw.py"), "exec"), module)
    watch = types.SimpleNamespace(
        frames=Frames(str(tmp_path)),
        pool=types.SimpleNamespace(name="gevent"),
        report=lambda kind, *_, **__: told.append(kind),
    )
    with pytest.raises(BlockingIOError) as raised:
        module["ask"](module[read])
    Unpatched(watch).failed(Run("1", None, ""), "FAILURE", raised.value)
    assert told == kinds


class Two:
    """Two tasks of which one runs at a time, and what was told."""

    def __init__(self):
        self.one, self.other = Run("1", None, ""), Run("2", None, "")
        self.now = self.one
        self.told = []

    def telling(self, original):
        return telling(original, lambda: self.now, lambda *what: self.told.append(what))


@pytest.fixture
def two():
    return Two()


def test_a_task_that_reads_what_another_has_set_over_its_own_is_told(two):
    local = two.telling(_thread._local)()
    local.tenant = "ann"
    two.now = two.other
    local.tenant = "bob"
    assert local.tenant == "bob"
    assert not two.told
    two.now = two.one
    assert local.tenant == "bob"
    ((run, other, _, how),) = two.told
    assert (run, other) == (two.one, two.other)
    assert "'bob'" in how
    assert "'ann'" in how


def test_a_task_that_only_finds_what_another_has_set_is_not(two):
    local = two.telling(_thread._local)()
    local.client = object()
    two.now = two.other
    assert local.client
    assert not two.told


def test_two_tasks_in_one_recursive_lock_are_told(two):
    lock = two.telling(_thread.RLock)()
    with lock:
        two.now = two.other
        with lock:
            pass
        two.now = two.one
    ((run, other, *_),) = two.told
    assert (run, other) == (two.other, two.one)


def test_a_task_that_enters_its_own_lock_again_is_not(two):
    lock = two.telling(threading.RLock)()
    with lock, lock:
        pass
    two.now = two.other
    with lock:
        pass
    assert lock.acquire(blocking=False)
    lock.release()
    assert not two.told


def test_other_originals_stay_what_they_are(two):
    assert two.telling(_thread.allocate_lock) is _thread.allocate_lock
    assert two.telling(threading.Thread) is threading.Thread
