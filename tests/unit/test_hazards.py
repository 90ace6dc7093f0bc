"""What the spans of a test show that no detector in the worker can see."""

import time
from datetime import UTC, datetime

import pytest

from pytest_celerypool.agent.publishing import Route
from pytest_celerypool.ledger import Copies, Ledger
from pytest_celerypool.pools import pool
from pytest_celerypool.trace import Command
from pytest_celerypool.verdict.hazards import Seen, find


class Story:
    """Tells a ledger what happened, at moments counted from an hour ago."""

    def __init__(self, name="threads", **seen):
        self.pool = pool(name)
        self.ledger = Ledger("test_it", name, reports_lost=self.pool.reports_system_exit)
        self.seen = Seen(queues=frozenset({"celery"}), **seen)
        self.start = time.monotonic() - 3600

    def publish(self, task_id, at, task="t.work", eta=None, queue="celery"):
        when = None if eta is None else datetime.fromtimestamp(self.start + eta - time.monotonic() + time.time(), UTC)
        self.ledger.publish(task_id, task, 0, self.start + at, queue, when and when.isoformat())

    def record(self, kind, at, **fields):
        self.ledger.feed({"e": kind, "t": self.start + at, **fields})

    def begin(self, task_id, at, task="t.work", slot="1"):
        self.record("start", at, id=task_id, task=task, retries=0, args=None, kwargs=None, pid=7, slot=slot, mem=None)

    def end(self, task_id, at, state="SUCCESS", task="t.work", slot="1", exc=None):
        self.record("end", at, id=task_id, task=task, retries=0, pid=7, slot=slot, state=state, exc=exc)

    def run(self, task_id, published, started, ended, **fields):
        task, slot = fields.get("task", "t.work"), fields.get("slot", "1")
        self.publish(task_id, published, task, fields.get("eta"))
        self.begin(task_id, started, task, slot)
        self.end(task_id, ended, fields.get("state", "SUCCESS"), task, slot)

    def kinds(self):
        return {(finding.kind, finding.task) for finding in find(self.ledger, self.pool, self.seen)}


def test_an_ordinary_test_shows_nothing():
    story = Story(concurrency=2)
    for number in range(8):
        story.run(str(number), 0, number // 2, number // 2 + 0.9, slot=str(number % 2))
    assert story.kinds() == set()


def test_a_worker_that_died_while_a_task_ran():
    story = Story(death="was killed by SIGSEGV", concurrency=2)
    story.publish("a", 0)
    story.begin("a", 1)
    story.publish("b", 0)
    (finding,) = find(story.ledger, story.pool, story.seen)
    assert finding.kind == "worker-died"
    assert "was killed by SIGSEGV" in finding.message
    assert "b] was still queued" in finding.evidence


def test_a_worker_that_the_test_ended_or_that_ran_nothing_is_no_finding():
    assert Story(death="exited with status 0").kinds() == set()
    story = Story(ended_by_test=True)
    story.publish("a", 0)
    story.begin("a", 1)
    assert story.kinds() == set()


LOG = """[info] ready
Fatal Python error: Segmentation fault

Thread 0x01 (most recent call first):
  File "/lib/threading.py", line 5 in wait

Current thread 0x02 (most recent call first):
  File "/lib/ctypes/__init__.py", line 519 in string_at
  File "/home/x/tasks.py", line 7 in crash
  File "/venv/site-packages/celery/app/trace.py", line 479 in trace_task
  File "/home/x/other.py", line 1 in run
"""


def test_the_crashed_task_is_named_by_its_frame():
    story = Story(death="was killed by SIGSEGV", log=lambda: LOG, is_user=lambda file: "/home/" in file, concurrency=2)
    for task_id, task in (("a", "t.slow"), ("b", "t.crash")):
        story.publish(task_id, 0, task)
        story.begin(task_id, 1, task, slot=task_id)
    (finding,) = find(story.ledger, story.pool, story.seen)
    assert finding.task == "t.crash"
    assert finding.evidence.splitlines()[0] == "tasks.py:7 in crash"


def test_a_task_whose_process_died_is_lost():
    story = Story()
    story.publish("a", 0)
    story.begin("a", 1)
    story.ledger.close_dead(lambda pid: False)
    assert story.kinds() == {("task-lost", "t.work")}


def test_what_left_a_slot_is_for_the_worker_to_judge():
    story = Story("eventlet")
    story.publish("a", 0)
    story.begin("a", 1)
    story.end("a", 2, state=None, exc={"text": "GreenletExit()", "type": "GreenletExit"})
    assert story.kinds() == set()


def test_executions_beyond_the_publications_are_duplicates():
    story = Story()
    story.run("a", 0, 1, 4)
    story.begin("a", 3, slot="2")
    story.end("a", 6, slot="2")
    assert story.kinds() == {("task-duplicated", "t.work")}


def executed(*, times, route=None, queues=("a", "b")):
    """The story of a task that was published once, and of an exchange that put it into these queues."""
    story = Story()
    story.publish("a", 0)
    if route is not None:
        story.ledger.copied("a", 0, Copies(route, queues))
    for number in range(times):
        story.begin("a", 1 + number)
        story.end("a", 1.5 + number)
    return list(find(story.ledger, story.pool, story.seen))


@pytest.mark.parametrize(
    ("times", "says"),
    [(2, "the exchange 'x' put a copy into each of the queues 'a' and 'b'"), (3, "delivered it again")],
)
def test_what_an_exchange_copied_was_not_delivered_again(times, says):
    (finding,) = executed(times=times, route=Route("x", "k", "topic"))
    assert finding.kind == "task-duplicated"
    assert says in finding.message


def test_what_goes_to_every_queue_by_design_is_a_duplicate_only_beyond_that():
    fanout = Route("x", "k", "fanout")
    assert executed(times=2, route=fanout) == []
    assert [finding.kind for finding in executed(times=3, route=fanout)] == ["task-duplicated"]


@pytest.mark.parametrize("state", ["REJECTED", "RETRY"])
def test_a_message_that_was_asked_for_again_is_no_duplicate(state):
    story = Story()
    story.run("a", 0, 1, 2, state=state)
    story.begin("a", 3)
    story.end("a", 4)
    assert story.kinds() == set()


def test_a_task_that_is_replaced_is_no_duplicate():
    story = Story()
    story.run("a", 0, 1, 2, state="IGNORED")
    story.run("a", 2, 3, 4)
    assert story.kinds() == set()


def test_a_task_that_ends_its_child_again_and_again():
    story = Story("prefork")
    lost = {"type": "WorkerLostError", "args": ["exitcode 1 Job: 1"], "text": "WorkerLostError()"}
    story.publish("a", 0)
    for number in range(3):
        story.begin("a", number)
        story.end("a", number + 0.5, state="FAILURE", exc=lost)
    assert story.kinds() == {("task-duplicated", "t.work"), ("child-died", "t.work")}


def command(story, name, at, *, ids=(), terminate=False, lasted=0.0, unheard=False):
    begin = story.start + at
    story.ledger.commands.append(Command(name, ids, terminate, begin, begin + lasted, unheard))


@pytest.mark.parametrize(
    ("asked", "terminate", "found"),
    [(1.5, True, True), (1.5, False, False), (2.9, True, False), (0.2, False, True), (0.9, False, False)],
)
def test_a_revocation_that_changed_nothing_under_solo(asked, terminate, found):
    story = Story("solo")
    story.run("a", 0, 1, 3)
    command(story, "revoke", asked, ids=("a",), terminate=terminate)
    assert story.kinds() == ({("revoke-ignored", "t.work")} if found else set())


def waits(story, task_id, on, began, ended=None):
    story.record("wait", began, id=task_id, task="t.parent", on=[on], evidence=["t.py:1 in parent"])
    if ended is not None:
        story.record("waited", ended, id=task_id)


def parents(story, number=2, ended=4.0):
    for each in range(number):
        story.publish(f"p{each}", 0, "t.parent")
        story.publish(f"c{each}", 1, "t.child")
        story.begin(f"p{each}", 1, "t.parent", slot=str(each))
        waits(story, f"p{each}", f"c{each}", 1, ended)


def test_every_slot_waits_for_a_task_without_one():
    story = Story("prefork", concurrency=2)
    parents(story)
    (finding,) = find(story.ledger, story.pool, story.seen)
    assert finding.kind == "pool-saturated"
    assert finding.evidence.splitlines()[0] == "t.py:1 in parent"


def test_waits_that_go_on_saturate_too():
    story = Story("prefork", concurrency=2)
    parents(story, ended=None)
    assert story.kinds() == {("pool-saturated", "t.parent")}


def test_a_free_slot_a_short_wait_or_another_workers_queue_saturates_nothing():
    free = Story("prefork", concurrency=3)
    parents(free)
    short = Story("prefork", concurrency=2)
    parents(short, ended=1.5)
    elsewhere = Story("prefork", concurrency=1)
    elsewhere.publish("p", 0, "t.parent")
    elsewhere.publish("c", 1, "t.child", queue="gpu")
    elsewhere.begin("p", 1, "t.parent")
    waits(elsewhere, "p", "c", 1, 4)
    running = Story("prefork", concurrency=1)
    running.publish("p", 0, "t.parent")
    running.begin("p", 1, "t.parent")
    running.run("c", 1, 1.1, 3.9, task="t.child")
    waits(running, "p", "c", 1, 4)
    assert [story.kinds() for story in (free, short, elsewhere, running)] == [set()] * 4


def test_a_question_that_nobody_answered_while_a_task_ran():
    story = Story("solo")
    story.run("a", 0, 1, 4)
    command(story, "ping", 2, lasted=1, unheard=True)
    assert story.kinds() == {("control-blocked", "t.work")}


@pytest.mark.parametrize(
    ("name", "hold", "found"), [("gevent", 3, True), ("gevent", 0.1, False), ("prefork", None, False)]
)
def test_only_a_task_that_keeps_the_worker_keeps_it_from_answering(name, hold, found):
    story = Story(name)
    story.run("a", 0, 1, 4)
    story.ledger.spans[0].hold = hold
    command(story, "ping", 2, lasted=1, unheard=True)
    assert story.kinds() == ({("control-blocked", "t.work")} if found else set())


def test_a_question_that_was_answered_or_asked_of_an_idle_worker_is_none():
    story = Story("solo")
    story.run("a", 0, 1, 2.5)
    command(story, "ping", 2, lasted=1)
    command(story, "ping", 2, lasted=1, unheard=True)
    assert story.kinds() == set()


def test_an_eta_is_missed_while_the_only_slot_is_busy():
    story = Story("solo")
    story.run("a", 0, 1, 5)
    story.run("b", 0, 5.1, 5.2, task="t.remind", eta=2)
    assert story.kinds() == {("eta-late", "t.remind")}


def test_an_eta_that_is_kept_or_missed_by_little_is_none():
    story = Story("solo")
    story.run("a", 0, 1, 2.3)
    story.run("b", 0, 2.4, 2.5, task="t.remind", eta=2)
    assert story.kinds() == set()


@pytest.mark.parametrize(
    ("name", "hold", "lasted", "found"),
    [("gevent", 2.9, 3, True), ("gevent", 0.01, 3, False), ("threads", None, 3, False), ("threads", None, 4, True)],
)
def test_a_task_behind_a_long_one_while_slots_are_free(name, hold, lasted, found):
    story = Story(name, concurrency=10)
    story.run("a", 0, 0.1, lasted)
    story.ledger.spans[0].hold = hold
    story.run("b", 0.2, lasted + 0.05, lasted + 0.1, task="t.quick", slot="2")
    assert story.kinds() == ({("starved", "t.quick")} if found else set())


@pytest.mark.parametrize("seen", [{"concurrency": 1}, {"concurrency": 10, "rate_limit": lambda name: "1/s"}])
def test_a_task_that_no_slot_was_free_for_or_that_has_a_rate_is_not_starved(seen):
    story = Story("gevent", **seen)
    story.run("a", 0, 0.1, 3)
    story.ledger.spans[0].hold = 2.9
    story.run("b", 0.2, 3.05, 3.1, task="t.quick", slot="2")
    assert story.kinds() == set()


def limited(rate_limit="1/s", lasts=0.1):
    """Mails of which one a second may begin, and a task behind as many as the only worker may hold."""
    story = Story("solo", concurrency=1, rate_limit=lambda name: rate_limit if name == "t.mail" else None)
    for number in range(6):
        story.publish(str(number), 0, "t.mail")
        story.record("recv", max(0.05, number - 3.9), id=str(number), task="t.mail", retries=0, eta=None)
        story.begin(str(number), number, "t.mail")
        story.end(str(number), number + lasts, task="t.mail")
    story.publish("quick", 0.1, "t.quick")
    story.record("recv", 2.2, id="quick", task="t.quick", retries=0, eta=None)
    story.begin("quick", 2.2, "t.quick")
    story.end("quick", 2.3, task="t.quick")
    return story


@pytest.mark.parametrize(
    ("story", "found"),
    [
        (limited(), {("starved", "t.quick")}),
        (limited(rate_limit=None), set()),
        (limited(lasts=0.9), set()),  # the slot was busy for most of the time
    ],
)
def test_a_task_that_is_not_fetched_since_others_wait_for_their_rate(story, found):
    assert story.kinds() == found


@pytest.mark.parametrize("pool", ["gevent", "threads"])
def test_many_tasks_that_waited_are_not_compared_with_one_another(pool):
    """Where none of them ran for long, or has a rate: to compare 4000 takes ten seconds."""
    story = Story(pool, concurrency=500)
    for number in range(4000):
        story.publish(str(number), 0)
        story.record("recv", 2.0, id=str(number), task="t.work", retries=0, eta=None)
        story.begin(str(number), 2.1)
        story.end(str(number), 2.2)
    began = time.monotonic()
    assert story.kinds() == set()
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("told", [True, False])
def test_a_worker_that_died_of_a_failure_is_told_of_once(told):
    """Its agent names the line; where there was none to see it, the log says what it was."""
    story = Story("solo", death="exited with status 1", log=lambda: "Unrecoverable error: MemoryError('')")
    story.publish("a", 0)
    story.begin("a", 1)
    story.end("a", 2, state="FAILURE", exc={"type": "MemoryError", "module": "builtins", "args": [], "text": ""})
    if told:
        about = {"kind": "worker-died", "task": "t.work", "id": "a", "message": "", "evidence": [], "remedy": ""}
        story.ledger.feed({"e": "finding", "t": story.start + 2, **about, "key": "", "others": []})
    assert story.kinds() == (set() if told else {("worker-died", "t.work")})
