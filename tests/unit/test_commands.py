"""Which remote control commands leave a worker to no other test, and what they change in the test's own process."""

from types import SimpleNamespace

import pytest
from celery import Celery
from celery.app.control import Control
from celery.worker import state
from celery.worker.control import Panel, control_command, inspect_command
from kombu.pidbox import Node

from pytest_celerypool.agent import commands
from pytest_celerypool.worker import alters

INFO = {"queues": ["celery"], "unchanging": commands.unchanging()}


@pytest.mark.parametrize(
    "name", ["ping", "stats", "active", "dump_active", "registered", "revoked", "conf", "hello", "revoke", "terminate"]
)
def test_what_only_looks_or_concerns_tasks_by_their_ids_alters_nothing(name):
    assert not alters(INFO, name, {})


@pytest.mark.parametrize(
    "name",
    [
        *("rate_limit", "time_limit", "cancel_consumer", "pool_grow", "pool_shrink", "pool_restart", "autoscale"),
        *("shutdown", "revoke_by_stamped_headers", "disable_events"),
    ],
)
def test_every_other_command_alters_the_worker(name):
    assert alters(INFO, name, {"queue": "celery"})


def test_a_queue_that_the_plugin_asked_for_or_that_is_consumed_anyway_alters_nothing():
    assert not alters(INFO, "add_consumer", {"queue": "celery"})
    assert not alters(INFO, "add_consumer", {"queue": "mail"}, {"mail"})
    assert alters(INFO, "add_consumer", {"queue": "mail"})


def test_the_applications_own_commands_alter_a_worker_unless_they_inspect(monkeypatch):
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    monkeypatch.setattr(Panel, "meta", dict(Panel.meta))

    @inspect_command(alias="gaze")
    def look(state):
        pass

    @control_command()
    def change(state):
        pass

    assert {"look", "gaze"} <= set(commands.unchanging())
    assert "change" not in commands.unchanging()


def nothing():
    pass


class Worker:
    """What a worker's mailbox hands its commands to."""

    def __init__(self):
        self.app = Celery("proj", broker="memory://", set_as_current=False)
        self.obeyed = []
        recorder = SimpleNamespace(foreign=lambda app: app is not self.app, commanded=self._commanded)
        self.unwatch = commands.watch(recorder)

    def _commanded(self, name, arguments):
        self.obeyed.append(name)

    def tell(self, name, app=None, **arguments):
        consumer = SimpleNamespace(reset_rate_limits=lambda: None)
        about = SimpleNamespace(app=app or self.app, consumer=consumer)
        node = SimpleNamespace(handlers=Panel.data, state=about)
        return Node.handle(node, name, arguments)


def test_what_a_task_sends_is_recorded_before_it_goes(monkeypatch):
    told, gone = [], []
    monkeypatch.setattr(Control, "broadcast", lambda self, command, *args, **kwargs: gone.append((command, len(told))))
    app, other = (Celery(name, broker="memory://", set_as_current=False) for name in ("proj", "other"))
    commands.watch_sent(app, SimpleNamespace(commanded=lambda name, arguments, sent: told.append((name, arguments))))
    app.control.rate_limit("proj.add", "1/m")
    app.control.ping()
    other.control.rate_limit("proj.add", "1/m")
    assert told == [("rate_limit", {"task_name": "proj.add", "rate_limit": "1/m"})]
    assert gone == [("rate_limit", 1), ("ping", 1), ("rate_limit", 1)]


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.unwatch()


def test_only_commands_that_may_change_the_worker_are_recorded(worker):
    worker.app.task(name="proj.add")(nothing)
    worker.tell("rate_limit", task_name="proj.add", rate_limit="1/m")
    worker.tell("ping")
    worker.tell("rate_limit", Celery("other", set_as_current=False), task_name="x", rate_limit="1/m")
    with pytest.raises(KeyError):
        worker.tell("no_such_command")
    assert worker.obeyed == ["rate_limit"]


def test_a_command_that_fails_is_recorded_too(worker):
    with pytest.raises(TypeError):
        worker.tell("rate_limit")
    assert worker.obeyed == ["rate_limit"]


def test_the_limits_of_tasks_are_put_back_at_the_end(worker):
    limited = worker.app.task(name="proj.limited", rate_limit="5/s", time_limit=9)(nothing)
    free = worker.app.task(name="proj.free")(nothing)
    for name in ("proj.limited", "proj.free"):
        worker.tell("rate_limit", task_name=name, rate_limit="1/m")
        worker.tell("time_limit", task_name=name, hard=2, soft=1)
    assert (limited.rate_limit, limited.time_limit, free.soft_time_limit) == ("1/m", 2, 1)
    worker.unwatch()
    assert (limited.rate_limit, limited.time_limit, limited.soft_time_limit) == ("5/s", 9, None)
    assert (free.rate_limit, free.time_limit, free.soft_time_limit) == (None, None, None)


def test_the_stamps_that_are_revoked_are_put_back_at_the_end(worker, monkeypatch):
    if not hasattr(state, "revoked_stamps"):
        pytest.skip("this Celery revokes no stamps")
    monkeypatch.setitem(state.revoked_stamps, "kept", ["1"])
    worker.tell("revoke_by_stamped_headers", headers={"tenant": ["2"]})
    assert set(state.revoked_stamps) == {"kept", "tenant"}
    worker.unwatch()
    assert state.revoked_stamps == {"kept": ["1"]}
