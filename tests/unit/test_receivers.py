"""Whoever listens to Celery's signals hears of them, whatever else listens."""

import functools
import os
import types

import pytest
from celery import Celery, signals
from celery.app import trace
from celery.backends.base import Backend
from celery.utils.dispatch import Signal
from celery.worker.request import Request

from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.receivers import call_directly, connect, receivers_of
from pytest_celerypool.agent.recorder import Recorder, Writer


class Ear:
    def __init__(self):
        self.heard = 0

    def hears(self, **_):
        self.heard += 1


@pytest.fixture
def old_ids(monkeypatch):
    """How Celery told receivers apart before 5.7."""

    def make_id(target):
        return target if isinstance(target, str) else id(getattr(target, "__func__", target))

    monkeypatch.setattr("celery.utils.dispatch.signal._make_id", make_id)


@pytest.mark.usefixtures("old_ids")
def test_two_objects_of_a_class_both_hear():
    """The same method of two objects is two receivers, under every version of Celery."""
    signal, one, other = Signal(), Ear(), Ear()
    connect((signal, one.hears), (signal, other.hears))
    signal.send(sender=None)
    assert (one.heard, other.heard) == (1, 1)


@pytest.mark.usefixtures("old_ids")
def test_who_stops_to_listen_leaves_the_others_listening():
    """The end of one listener is not that of another of its class."""
    signal, one, other = Signal(), Ear(), Ear()
    disconnect = connect((signal, one.hears))
    connect((signal, other.hears))
    disconnect()
    signal.send(sender=None)
    assert (one.heard, other.heard) == (0, 1)


@pytest.fixture
def direct(monkeypatch):
    """A signal with one listener, which is called directly, and how often the signal has looked for listeners."""
    signal, ear = Signal(), Ear()
    hears = ear.hears
    connect((signal, hears))
    celery = types.SimpleNamespace(send=signal.send)
    looked = []
    live = signal._live_receivers
    monkeypatch.setattr(signal, "_live_receivers", lambda sender: looked.append(sender) or live(sender))
    undo = call_directly(signal, hears, (celery, "send"), (signal, "send"))
    return types.SimpleNamespace(signal=signal, ear=ear, celery=celery, looked=looked, undo=undo)


def test_the_only_listener_is_called_without_the_signals_dispatch(direct):
    direct.celery.send(sender=None, task_id="1")
    direct.signal.send(None, task_id="1")
    assert (direct.ear.heard, direct.looked) == (2, [])


def test_where_others_listen_too_all_hear_in_their_order(direct):
    other = Ear()
    direct.signal.connect(other.hears)
    direct.celery.send(sender=None)
    assert (direct.ear.heard, other.heard, len(direct.looked)) == (1, 1, 1)


def test_another_that_listens_alone_hears(direct):
    other = Ear()
    direct.signal.receivers.clear()
    direct.signal.connect(other.hears)
    direct.celery.send(sender=None)
    assert (direct.ear.heard, other.heard) == (0, 1)


def test_the_signals_dispatch_is_put_back(direct):
    direct.undo()
    assert direct.celery.send == direct.signal.send
    assert "send" not in vars(direct.signal)


def test_what_somebody_else_has_put_in_the_place_of_the_dispatch_stays(direct):
    theirs = direct.celery.send = lambda **_: None
    direct.undo()
    assert direct.celery.send is theirs


def test_what_somebody_has_put_there_before_is_called_and_stays():
    signal, ear, theirs = Signal(), Ear(), []
    hears = ear.hears
    connect((signal, hears))
    signal.send = lambda sender, **named: theirs.append(sender)
    before = signal.send
    undo = call_directly(signal, hears, (signal, "send"))
    signal.send("x")
    undo()
    assert theirs == ["x"]
    assert signal.send is before


def celerys():
    """What a recorder replaces of Celery's."""
    return (
        *(trace.send_prerun, trace.send_postrun, vars(signals.task_received).get("send")),
        *(Request.on_timeout, Backend.mark_as_done, Backend.store_result, Celery._get_backend),
    )


def test_a_recorder_puts_back_what_it_has_replaced(tmp_path):
    before = celerys()
    disconnect = Recorder(Writer(str(tmp_path / "trace")), green=False).connect()
    assert all(one is not other for one, other in zip(before, celerys(), strict=True))
    disconnect()
    assert celerys() == before


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_recorders_that_end_in_any_order_neither_is_called_any_more(tmp_path, first):
    """Workers in the test's own process, of a cluster."""
    before = celerys()
    recorders = [Recorder(Writer(str(tmp_path / name)), green=False, app=Celery()) for name in "ab"]
    ends = [recorder.connect() for recorder in recorders]
    ends.pop(first)()
    ends.pop()()
    request = types.SimpleNamespace(app=recorders[first]._app, id="1", name="t", request_dict={}, eta=None)
    signals.task_received.send(sender=None, request=request)
    trace.send_prerun(sender=None, task_id="1", task=None)
    assert not any((tmp_path / name).read_text() for name in "ab")
    assert celerys() == before


@pytest.mark.parametrize("first", [0, 1])
def test_a_hard_time_limit_is_recorded_by_those_who_have_not_ended(tmp_path, monkeypatch, first):
    monkeypatch.setattr(Request, "on_timeout", lambda self, soft, timeout: None)
    recorders = [Recorder(Writer(str(tmp_path / name)), green=False) for name in "ab"]
    ends = [recorder.connect() for recorder in recorders]
    ends.pop(first)()
    Request.on_timeout(types.SimpleNamespace(app=None, id="1", name="t"), False, 1.0)
    ends.pop()()
    assert [bool((tmp_path / name).read_text()) for name in "ab"] == [first == 1, first == 0]


def decorated(function):
    @functools.wraps(function)
    def wrapper(**kwargs):
        return function(**kwargs)

    return wrapper


def test_the_users_receivers_are_found_whatever_they_are_wrapped_in():
    """Functions, those inside of a decorator and of methods, and of two senders that of the one asked for."""
    signal, ear = Signal(), Ear()

    @decorated
    def hears(**_):
        pass

    def hears_one(**_):
        pass

    signal.connect(hears, weak=False)
    signal.connect(ear.hears)
    signal.connect(hears_one, sender="one", weak=False)
    signal.connect(functools.partial(ear.hears), weak=False)
    here = Frames(os.path.dirname(__file__))
    assert receivers_of(signal, here) == [hears.__wrapped__, Ear.hears, hears_one]
    assert receivers_of(signal, here, "two") == [hears.__wrapped__, Ear.hears]
    assert receivers_of(signal, types.SimpleNamespace(is_user=lambda _: False)) == []
    assert receivers_of(Signal(), here) == []
