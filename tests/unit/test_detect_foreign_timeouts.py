"""When a timeout of a library whose hub never runs is told of: its time has passed, and nothing was raised."""

import types

import pytest

from pytest_celerypool.agent.detectors.sharing import foreign_timeouts
from pytest_celerypool.agent.detectors.sharing.foreign_timeouts import ForeignTimeouts


class Timeout:
    """As gevent's: a timer that has not come as long as it is pending."""

    def __init__(self, seconds):
        self.seconds, self.pending = seconds, False

    def start(self):
        self.pending = True

    def close(self):
        self.pending = False

    cancel = close


@pytest.fixture
def told(monkeypatch):
    """What is reported under threads of the timeouts of a task, and the seconds that its clock shows."""
    shown = types.SimpleNamespace(now=0.0, messages=[])
    run = types.SimpleNamespace(marks={})
    watch = types.SimpleNamespace(
        frames=types.SimpleNamespace(user_frame=lambda frame: frame, stack=lambda *_: ["tasks.py:1 in quote"]),
        pool=types.SimpleNamespace(name="threads"),
        current=lambda: run,
        guarded=lambda _, callback: callback,
        bind=lambda: None,
        report=lambda _kind, _run, message, *_, **__: shown.messages.append(message),
    )
    monkeypatch.setattr(foreign_timeouts, "time", types.SimpleNamespace(monotonic=lambda: shown.now))
    monkeypatch.setitem(foreign_timeouts.sys.modules, "gevent.timeout", types.SimpleNamespace(Timeout=Timeout))
    monkeypatch.setitem(foreign_timeouts.sys.modules, "eventlet.timeout", None)
    detector = ForeignTimeouts(watch)
    detector.imported()
    yield shown
    detector.remove()


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_one_whose_time_has_passed_and_that_has_not_come(told, end):
    timeout = Timeout(0.5)
    timeout.start()
    told.now = 1.5
    getattr(timeout, end)()
    (message,) = told.messages
    assert message.startswith("gevent's Timeout of 0.5 s was over after 1.50 s and nothing was raised")


def test_one_that_has_come_is_none(told):
    timeout = Timeout(0.5)
    timeout.start()
    timeout.pending, told.now = False, 1.5
    timeout.close()
    assert not told.messages


def test_one_that_ends_in_time_is_none(told):
    timeout = Timeout(0.5)
    timeout.start()
    told.now = 0.55
    timeout.close()
    assert not told.messages


def test_one_without_a_time_is_none(told):
    timeout = Timeout(None)
    timeout.close()
    assert not told.messages
