"""Loops over the state of another task become waits; a look at it now and then does not."""

from types import SimpleNamespace

import pytest

from pytest_celerypool.agent.detectors.ends import waiting


class Watching:
    """A worker in which one task runs."""

    def __init__(self):
        self.run = SimpleNamespace(id="parent", marks={}, task=SimpleNamespace(name="t.parent"))
        self.records, self.reports = [], []
        self.pool = SimpleNamespace(name="solo")
        self.recorder = SimpleNamespace(writer=SimpleNamespace(write=lambda kind, **_: self.records.append(kind)))
        self.frames = SimpleNamespace(user_frame=lambda frame: frame, stack=lambda frame: ["t.py:1 in parent"])

    def current(self):
        return self.run

    def bind(self):
        """Find out anew who wants to hear what, which no test here asks for."""

    def report(self, kind, *_args, **_kwargs):
        self.reports.append(kind)


@pytest.fixture
def now(monkeypatch):
    moment = SimpleNamespace(value=100.0)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: moment.value)
    return moment


def ask(joins, now, times, every, status="PENDING", task_id="child"):
    for _ in range(times):
        joins._asked({"status": status}, SimpleNamespace(id=task_id))
        now.value += every


def test_a_loop_that_lasts_is_a_wait_from_its_first_question_on(now):
    watch = Watching()
    joins = waiting.Joins(watch)
    ask(joins, now, 20, 0.1)
    assert watch.records == ["wait"]
    assert watch.reports == ["join-allowed"]
    ask(joins, now, 1, 0, status="SUCCESS")
    assert watch.records == ["wait", "waited"]


@pytest.mark.parametrize(("times", "every"), [(1, 0), (3, 1.0), (30, 0.001)])
def test_a_few_questions_or_a_short_burst_are_none(now, times, every):
    watch = Watching()
    joins = waiting.Joins(watch)
    ask(joins, now, times, every)
    ask(joins, now, 1, 0, status="SUCCESS")
    assert watch.records == watch.reports == []


def test_a_task_that_asks_for_itself_waits_for_nobody(now):
    watch = Watching()
    ask(waiting.Joins(watch), now, 20, 0.1, task_id="parent")
    assert watch.records == []


def beating(interval, lasted, now):
    def task():
        return None

    watch = Watching()
    watch.frames.place_of = lambda *_: "t.py:1 in work"
    watch.run.task.run = task
    heart = waiting.Heartbeats(watch)
    connection = SimpleNamespace(supports_heartbeats=True, get_heartbeat_interval=lambda: interval)
    consumer = SimpleNamespace(amqheartbeat=interval, connection=connection)
    heart._starts(SimpleNamespace(consumer=consumer))
    heart.started(watch.run)
    now.value += lasted
    heart.ended(watch.run, "SUCCESS", None)
    return watch.reports


def test_a_task_longer_than_two_heartbeats_misses_one(now):
    assert beating(2, 5, now) == ["heartbeat-missed"]
    assert beating(2, 3.9, now) == []


def test_without_heartbeats_none_is_missed(now):
    assert beating(0, 500, now) == []


def test_without_heartbeats_nobody_asks_for_the_time_of_each_task():
    heart = waiting.Heartbeats(Watching())
    connection = SimpleNamespace(supports_heartbeats=True, get_heartbeat_interval=lambda: 0)
    heart._starts(SimpleNamespace(consumer=SimpleNamespace(amqheartbeat=0, connection=connection)))
    assert not heart.resting
    heart.started(heart.watch.run)
    assert heart.resting == {"started", "ended"}
