"""The handles of a cluster know of their tasks what their workers have written down."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pytest_celerypool.agent.publishing import Route
from pytest_celerypool.cluster import Cluster
from pytest_celerypool.errors import WorkerError
from pytest_celerypool.handle import TaskTimeoutError, VainWaitError
from pytest_celerypool.launch import WorkerSpec
from pytest_celerypool.pools import pool
from pytest_celerypool.trace import Command, TraceReader
from pytest_celerypool.worker import WorkerHandle

BROKER = SimpleNamespace(server_pid=None, alive=lambda: True)


def launched(folder, name, records=(), early=()):
    """A worker that is ready, consumes a queue of its name and has written these records."""
    trace = folder / f"{name}.jsonl"
    trace.write_text("".join(json.dumps(record) + "\n" for record in records))
    return SimpleNamespace(
        spec=WorkerSpec("proj", pool("solo"), 1, options=("-Q", name), name=name),
        info={"hostname": f"{name}@here", "concurrency": 1, "tasks": ["proj.add"], "queues": [name]},
        early=list(early),
        reader=TraceReader(trace),
        records_publications=False,
        main_thread=(os.getpid(), os.getpid()),
        slot_histories={},
        pid=1,
        stacks=lambda: "",
        log_size=lambda: 0,
        death=lambda: None,
        death_notice=lambda start: "",
    )


def started(pid=10):
    task = {"id": "1", "task": "proj.add", "retries": 0, "pid": pid, "slot": "MainThread"}
    return {"e": "start", "t": 3.0, "args": "()", "kwargs": "{}", "mem": 1, "delayed": None, **task}


RECEIVED = {"e": "recv", "t": 2.0, "id": "1", "task": "proj.add", "retries": 0, "eta": None}


def ended(pid=10):
    task = {"id": "1", "task": "proj.add", "retries": 0, "pid": pid, "slot": "MainThread"}
    return {"e": "end", "t": 4.0, "state": "SUCCESS", "exc": None, **task}


def cluster(*workers):
    made = Cluster(None, BROKER, "test_x", 0.2)
    made.fill([WorkerHandle(None, worker, BROKER, "test_x", 0.2, made) for worker in workers])
    return made


def test_what_a_worker_did_before_its_cluster_was_complete_is_of_the_test(tmp_path):
    made = cluster(launched(tmp_path, "cpu", [ended()], early=[started()]), launched(tmp_path, "io"))
    assert [(span.worker, span.state) for span in made.spans] == [("cpu", "SUCCESS")]
    assert not made["io"].spans


@pytest.mark.parametrize("whose", ["cpu", "io"])
def test_each_handle_waits_for_the_tasks_of_all(tmp_path, whose):
    made = cluster(launched(tmp_path, "cpu"), launched(tmp_path, "io", [started()]))
    made[whose].ledger.publish("1", "proj.add", 0, 1.0, "io", None)
    with pytest.raises(TaskTimeoutError, match="running in MainThread of the solo worker 'io'"):
        made[whose].drain()


def test_what_lies_in_a_queue_of_none_is_hopeless_for_all(tmp_path):
    made = cluster(launched(tmp_path, "cpu"), launched(tmp_path, "io"))
    made.ledger.publish("1", "proj.add", 0, 1.0, "mail", None)
    with pytest.raises(TaskTimeoutError, match=r"nobody consumes \(cpu consumes: cpu; io consumes: io\)"):
        made.drain(timeout=60)


def due_in(made, seconds, task_id="1", published=1.0):
    """Publish a task to the worker 'cpu' that has an ETA."""
    eta = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    made.ledger.publish(task_id, "proj.add", 0, published, "cpu", eta)


def test_a_wait_that_ends_before_the_eta_is_in_vain_and_a_longer_one_is_not(tmp_path):
    made = cluster(launched(tmp_path, "cpu"))
    due_in(made, 40)
    made.check({"1": ()}, time.monotonic() + 60)
    with pytest.raises(VainWaitError, match=r"waits for its ETA, .* the wait for its result would end before that"):
        made.check({"1": ()}, time.monotonic() + 20)


def test_a_wait_for_what_would_follow_a_task_is_in_vain_with_it(tmp_path):
    made = cluster(launched(tmp_path, "cpu"))
    due_in(made, 40)
    with pytest.raises(VainWaitError, match="waits for its ETA"):
        made.check({"2": ("1",)}, time.monotonic() + 20)
    made.ledger.publish("2", "proj.add", 0, 1.0, "cpu", None)
    made.check({"2": ("1",)}, time.monotonic() + 20)


def test_an_eta_may_turn_out_otherwise_at_first_and_while_other_tasks_run_and_once_it_is_revoked(tmp_path):
    made = cluster(launched(tmp_path, "cpu"))
    due_in(made, 40, published=time.monotonic())
    made.check({"1": ()}, time.monotonic() + 20)
    made.ledger.tasks.clear()
    due_in(made, 40)
    made.ledger.publish("2", "proj.add", 0, 1.0, "cpu", None)
    made.check({"1": ()}, time.monotonic() + 20)
    del made.ledger.tasks["2"]
    made["cpu"].ledger.commands.append(Command("revoke", ("1",), False, 1.0, 1.0, False))
    made.check({"1": ()}, time.monotonic() + 20)


def commanded(name, **arguments):
    return {"e": "command", "t": 2.0, "name": name, "arguments": arguments}


def test_what_reached_no_queue_that_is_known_is_hopeless_after_a_second(tmp_path, monkeypatch):
    made = cluster(launched(tmp_path, "cpu"))
    now = time.monotonic()
    made.ledger.publish("1", "proj.add", 0, now, None, None, Route("ax", "nobody"))
    assert not made._hopeless()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.1)
    assert made._hopeless()
    went = "went to the exchange 'ax' with the routing key 'nobody', to which no queue of the application is bound"
    assert made.why_never(made.ledger.tasks["1"]) == went


def test_what_an_exchange_handed_on_all_the_same_is_waited_for(tmp_path):
    made = cluster(launched(tmp_path, "cpu", [RECEIVED]))
    made.ledger.publish("1", "proj.add", 0, 1.0, None, None, Route("ax", "nobody"))
    assert not made._hopeless()


@pytest.mark.parametrize(("server", "hint"), [("redis+socket:///s", True), ("amqp://here", False)])
def test_on_redis_a_message_may_be_dropped_that_has_a_queue(tmp_path, server, hint):
    worker = launched(tmp_path, "cpu")
    worker.info["write"] = server
    made = cluster(worker)
    made.ledger.publish("1", "proj.add", 0, 1.0, "cpu", None, Route("ax", "a.b", "topic"))
    text = made.waits_for(made.ledger.tasks["1"])
    assert "to which the queue 'cpu' is bound, and was not received yet" in text
    assert ("give apply_async() queue='cpu' in place of the exchange" in text) is hint


def bound(worker, exchange, kind="topic", key="#", also=()):
    """The same worker, its queues bound to an exchange."""
    worker.info["queues"] += also
    worker.info["bindings"] = [[queue, queue, exchange, kind, key] for queue in worker.info["queues"]]
    return worker


def published(made, route, when):
    made.ledger.publish("1", "proj.add", 0, when, "cpu", None)
    made.note_copies("1", 0, route)


def test_a_test_is_not_over_before_each_queue_has_given_its_copy(tmp_path):
    records = [{**RECEIVED, "t": time.monotonic()}, started(), {**ended(), "t": time.monotonic()}]
    made = cluster(bound(launched(tmp_path, "cpu", records), "x"), bound(launched(tmp_path, "io"), "x"))
    published(made, Route("x", "k", "topic"), time.monotonic())
    with pytest.raises(TaskTimeoutError):
        made.drain(0.2)
    (tmp_path / "io.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    made.drain(0.2)
    assert [span.worker for span in made.spans] == ["cpu", "io"]


def test_a_copy_that_does_not_come_soon_is_not_waited_for(tmp_path):
    made = cluster(bound(launched(tmp_path, "cpu", [RECEIVED, started(), ended()]), "x", also=["io"]))
    published(made, Route("x", "k", "topic"), 1.0)
    made.drain(0.2)


def test_workers_of_the_same_queue_share_one_message(tmp_path):
    made = cluster(
        bound(launched(tmp_path, "cpu"), "x"), bound(launched(tmp_path, "io"), "x", also=["cpu"], key="other")
    )
    published(made, Route("x", "k", "topic"), 1.0)
    assert made.ledger.tasks["1"].copies == {}


@pytest.mark.parametrize(("server", "copies"), [("redis://somewhere", 1), ("amqp://somewhere", 2)])
def test_a_process_gets_a_fanout_of_redis_once(tmp_path, server, copies):
    worker = bound(launched(tmp_path, "cpu"), "x", "fanout", also=["io"])
    worker.info["write"] = server
    made = cluster(worker)
    published(made, Route("x", "k", "fanout"), 1.0)
    assert made.ledger.tasks["1"].deliveries(0) == copies


def test_a_queue_that_was_cancelled_is_consumed_by_nobody(tmp_path):
    made = cluster(launched(tmp_path, "cpu", [commanded("cancel_consumer", queue="cpu")]))
    made.ledger.publish("1", "proj.add", 0, 1.0, "cpu", None)
    with pytest.raises(TaskTimeoutError, match=r"nobody consumes since cancel_consumer \(cpu consumes: \)"):
        made.drain(timeout=60)
    with pytest.raises(WorkerError, match="nobody consumes"):
        made.check({"1": ()})
    made.check({"1": ()}, patient=True)


def test_a_cancelled_queue_that_is_added_again_is_consumed(tmp_path):
    records = [commanded("cancel_consumer", queue="cpu"), commanded("add_consumer", queue="cpu")]
    made = cluster(launched(tmp_path, "cpu", records))
    made.ledger.publish("1", "proj.add", 0, 1.0, "cpu", None)
    assert not made._hopeless()


def test_a_task_behind_its_rate_limit_waits_for_no_slot(tmp_path):
    limited = commanded("rate_limit", task_name="proj.add", rate_limit="1/m")
    made = cluster(launched(tmp_path, "cpu", [limited, RECEIVED]))
    assert "waits for its rate limit of 1/m (0 of 1" in made.waits_for(made.ledger.tasks["1"])


@pytest.mark.parametrize(("name", "soiled"), [("rate_limit", True), ("ping", False)])
def test_a_command_that_was_obeyed_before_the_handle_was_made_soils_the_worker(tmp_path, name, soiled):
    worker = launched(tmp_path, "cpu", [commanded(name)])
    worker.info["unchanging"] = ["ping"]
    assert cluster(worker)["cpu"].soiled is soiled


def test_what_a_process_recorded_just_before_it_died_is_read_before_its_task_is_called_lost(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    made = cluster(launched(tmp_path, "cpu", [started(process.pid)]))
    with open(tmp_path / "cpu.jsonl", "a") as trace:
        trace.write(json.dumps(ended(process.pid)) + "\n")
    made["cpu"].close_dead()
    assert [span.state for span in made["cpu"].ledger.spans] == ["SUCCESS"]


def test_a_name_that_no_worker_has_is_no_key(tmp_path):
    made = cluster(launched(tmp_path, "cpu"))
    assert "cpu" in made
    assert "io" not in made
    with pytest.raises(KeyError, match=r"no worker 'cpv'\. Its workers: cpu\. Did you mean 'cpu'"):
        made["cpv"]
