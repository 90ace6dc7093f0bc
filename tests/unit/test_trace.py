"""Records of the agent become spans, and the ledger knows what has not ended."""

import json
import time

import pytest

from pytest_celerypool.agent.recorder import Writer
from pytest_celerypool.ledger import SETTLING_S, Ledger
from pytest_celerypool.trace import LOST, PACKED, TraceReader

ERROR = {"type": "ValueError", "module": "builtins", "args": ["no"], "text": "ValueError('no')"}


def received(task_id="1", t=2.0, retries=0):
    return {"e": "recv", "t": t, "id": task_id, "task": "proj.add", "retries": retries, "eta": None}


def started(task_id="1", t=3.0, retries=0, slot="child 0", pid=10, args="(1, 2)", kwargs="{}"):
    return {
        "e": "start",
        "t": t,
        "id": task_id,
        "task": "proj.add",
        "retries": retries,
        "args": args,
        "kwargs": kwargs,
        "pid": pid,
        "slot": slot,
        "mem": 100,
    }


def ended(task_id="1", t=5.0, retries=0, slot="child 0", pid=10, state="SUCCESS", exc=None):
    return {
        "e": "end",
        "t": t,
        "id": task_id,
        "task": "proj.add",
        "retries": retries,
        "pid": pid,
        "slot": slot,
        "state": state,
        "exc": exc,
        "cpu": 0.5,
        "wait": 0.25,
        "mem": 150,
    }


def settled(task_id="1", t=6.0, state="FAILURE", exc=ERROR):
    return {"e": "settle", "t": t, "id": task_id, "task": "proj.add", "state": state, "exc": exc}


def published(task_id="1", t=1.0, retries=0):
    return {"e": "pub", "t": t, "id": task_id, "task": "proj.add", "retries": retries, "queue": "celery", "eta": None}


def ledger(*records, reports_lost=False):
    made = Ledger("test_x", "prefork", reports_lost=reports_lost)
    for record in records:
        made.feed(record)
    return made


@pytest.mark.parametrize(("began", "waited"), [(0.5, None), (1.5, 0.25), (3.5, None)])
def test_a_task_may_have_waited_for_garbage_to_be_collected(began, waited):
    """That of the worker, between the task's publication and its start."""
    collected = {"e": "gc", "t": began, "took": 0.25, "pid": 10}
    (span,) = ledger(published(), received(), collected, started(), ended()).spans
    assert span.queue_waited == waited


@pytest.mark.parametrize(("began", "pid", "collecting"), [(4.0, 10, 0.25), (4.0, 11, None), (5.5, 10, None)])
def test_garbage_is_collected_meanwhile_in_the_process_of_the_task(began, pid, collecting):
    collected = {"e": "gc", "t": began, "took": 0.25, "pid": pid}
    (span,) = ledger(published(), received(), started(), collected, ended()).spans
    assert span.collecting == collecting


def test_an_execution_becomes_a_span_with_its_times_and_figures():
    (span,) = ledger(published(), received(), started(), ended()).spans
    assert (span.published, span.received, span.started, span.ended) == (1.0, 2.0, 3.0, 5.0)
    assert (span.queued, span.runtime, span.total) == (2.0, 2.0, 4.0)
    assert (span.cpu, span.waited, span.hold) == (0.5, 0.25, None)
    assert (span.memory_before, span.memory_after) == (100, 150)
    assert (span.state, span.retries, span.slot, span.pid, span.pool, span.test) == (
        "SUCCESS",
        0,
        "child 0",
        10,
        "prefork",
        "test_x",
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("(1, 'a')", (1, "a")), ("[<object at 0x1>]", "[<object at 0x1>]"), (None, ()), ("(1, 2, ...", "(1, 2, ...")],
)
def test_arguments_are_values_where_their_text_says_them(text, value):
    (span,) = ledger(published(), started(args=text)).spans
    assert span.args == value


@pytest.mark.parametrize("count", range(4))
def test_a_task_is_outstanding_until_its_span_has_ended(count):
    records = [published(), received(), started(), ended()]
    assert ledger(*records[:count]).outstanding() or count == 0


def test_an_ended_task_is_not_outstanding():
    assert not ledger(published(), received(), started(), ended()).outstanding()


def test_a_task_is_outstanding_while_its_retry_is_to_come():
    made = ledger(published(), started(), published(retries=1, t=4.0), ended(state="RETRY"))
    assert made.tasks["1"].outstanding


def test_a_retry_is_a_second_span_of_the_same_id():
    made = ledger(
        published(),
        started(),
        published(retries=1, t=4.0),
        ended(state="RETRY"),
        started(t=6.0, retries=1),
        ended(t=7.0),
    )
    assert [(span.id, span.retries, span.state, span.published) for span in made.spans] == [
        ("1", 0, "RETRY", 1.0),
        ("1", 1, "SUCCESS", 4.0),
    ]


def test_a_retry_that_begins_before_the_first_has_left_ends_its_own_span():
    made = ledger(
        published(),
        started(slot="child 0", pid=10),
        published(retries=1),
        started(slot="child 1", pid=11, retries=1, t=4.0),
        ended(slot="child 0", pid=10, state="RETRY"),
    )
    assert [(span.slot, span.state) for span in made.spans] == [("child 0", "RETRY"), ("child 1", None)]


def test_a_message_that_could_not_be_sent_is_forgotten():
    made = ledger(published(), {"e": "unpub", "t": 1.1, "id": "1"})
    assert not made.tasks


def test_a_task_that_is_not_registered_is_known_as_such_and_not_waited_for():
    made = ledger(published(), {"e": "unknown", "t": 2.0, "id": "1", "task": "proj.add"})
    assert [entry.id for entry in made.unknown()] == ["1"]
    assert not made.outstanding()


def test_a_task_revoked_in_the_queue_has_a_span_that_never_started():
    (span,) = ledger(published(), received(), settled(state="REVOKED")).spans
    assert (span.state, span.started, span.runtime, span.ended) == ("REVOKED", None, None, 6.0)


def test_a_settlement_ends_the_open_span():
    (span,) = ledger(published(), received(), started(), settled()).spans
    assert (span.state, span.ended, span.exception) == ("FAILURE", 6.0, "ValueError('no')")


def test_a_failure_that_the_slot_reported_is_not_counted_again():
    made = ledger(published(), received(), started(), ended(state="FAILURE", exc=ERROR), settled())
    assert len(made.spans) == 1


def test_a_slot_left_without_a_state_is_lost():
    made = ledger(published(), started(), ended(state=None))
    assert made.spans[0].state == LOST
    assert not made.outstanding()


def test_where_the_pool_reports_lost_slots_the_ledger_waits_for_it():
    made = ledger(published(), started(), ended(state=None), reports_lost=True)
    assert made.outstanding()
    made.feed(settled())
    assert not made.outstanding()
    assert made.spans[0].state == "FAILURE"


def test_for_a_result_that_no_process_can_store_nothing_is_waited_for():
    unstorable = {"e": "unstorable", "t": 4.0, "id": "1"}
    made = ledger(published(), started(), unstorable, ended(state=None), reports_lost=True)
    assert not made.outstanding()
    assert made.spans[0].state == LOST


def test_the_wait_for_a_report_of_a_lost_slot_has_an_end(monkeypatch):
    made = ledger(published(), started(), ended(state=None), reports_lost=True)
    later = time.monotonic() + SETTLING_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert not made.outstanding()


def test_a_span_whose_process_is_gone_is_lost():
    made = ledger(published(), started(pid=10))
    made.close_dead(lambda pid: pid != 10)
    assert (made.spans[0].state, made.spans[0].exception) == (LOST, "process 10 died")


def test_a_process_that_dies_after_it_stored_the_result_loses_no_task():
    made = ledger(published(), started(pid=10), reports_lost=True)
    made.close_dead(lambda pid: False, {"1": "SUCCESS"}.get)
    assert not made.outstanding()
    assert (made.spans[0].state, made.spans[0].exception) == ("SUCCESS", None)


def test_what_the_worker_then_stores_over_the_result_counts():
    made = ledger(published(), started(pid=10), reports_lost=True)
    made.close_dead(lambda pid: False, {"1": "SUCCESS"}.get)
    made.feed(settled())
    assert made.spans[0].state == "FAILURE"


def test_a_failure_of_the_agent_is_kept():
    assert ledger({"e": "agent-error", "where": "on_x", "error": "Oops()"}).agent_errors == ["on_x: Oops()"]


def test_records_that_concern_no_task_are_passed_over():
    assert not ledger({"e": "boot", "pid": 1}, {"e": "from-the-future", "t": 1.0}).tasks


@pytest.fixture
def pack(tmp_path):
    """Return a packed record as a line."""

    def make(*record):
        writer = Writer(str(tmp_path / "packed"))
        writer.pack(record)
        writer.close()
        lines = (tmp_path / "packed").read_bytes().splitlines(keepends=True)
        return lines[-1]

    return make


@pytest.fixture
def reader(tmp_path):
    made = TraceReader(tmp_path / "trace")
    yield made
    made.close()


def test_a_reader_yields_nothing_before_there_is_a_file(reader):
    assert not list(reader.read())


def test_a_reader_yields_each_record_once(reader, tmp_path):
    with (tmp_path / "trace").open("a") as file:
        for number in range(3):
            file.write(json.dumps({"e": "x", "n": number}) + "\n")
            file.flush()
            assert [record["n"] for record in reader.read()] == [number]


def test_packed_records_have_their_fields(reader, pack, tmp_path):
    error = {"type": "E", "args": [1]}
    end = (1.5, "1", "t.a", 0, 7, "child 0", "FAILURE", error, *(0.1, None, None, 0.0, 4096, None, None))
    for each in ((1.0, "1", "t.a", 0, None, "recv"), (*end, "end")):
        with (tmp_path / "trace").open("ab") as file:
            file.write(pack(*each))
    received, ended = reader.read()
    assert received == {"e": "recv", "t": 1.0, "id": "1", "task": "t.a", "retries": 0, "eta": None}
    assert ended == {"e": "end", **dict(zip(PACKED["end"], end, strict=False))}
    assert "collected" not in ended


def test_a_packed_record_is_one_line_without_zeros(pack):
    line = pack(0.0, "\n\0", "t.a", 0, 1, "greenlet 1", "(\n)", None, 0, None, "start")
    assert line.endswith(b"\n")
    assert not {0, 10} & set(line[:-1])


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_packed_record_that_is_cut_off_is_passed_over(reader, pack, tmp_path, cut):
    """By a kill, or because another process has written behind half of it."""
    line = pack(1.0, "1", "t.a", 0, None, "recv")
    (tmp_path / "trace").write_bytes(line[:cut] + b"\n" + line[:cut] + line + line)
    assert [record["e"] for record in reader.read()] == ["recv"]


def test_a_reader_waits_for_the_end_of_a_line(reader, tmp_path):
    with (tmp_path / "trace").open("a") as file:
        file.write('{"e": "x", ')
        file.flush()
        assert not list(reader.read())
        file.write('"n": 1}\n')
        file.flush()
        assert [record["n"] for record in reader.read()] == [1]


def test_a_reader_passes_over_a_line_cut_off_by_a_kill(reader, tmp_path):
    (tmp_path / "trace").write_text('{"e": "x", "n"\n{"e": "y"}\n"text"\n')
    assert [record["e"] for record in reader.read()] == ["y"]


def test_of_what_was_written_while_no_test_had_the_worker_its_remarks_are_kept(reader, tmp_path):
    (tmp_path / "trace").write_text('{"e": "x"}\n{"e": "finding"}\n{"e": "agent-error"}\n{"e": "command"}\n')
    assert [record["e"] for record in reader.remarks()] == ["finding", "agent-error", "command"]
    assert not list(reader.read())


# -- the ledgers of a cluster


def cluster():
    """The ledgers of two workers, of the same tasks."""
    tasks = {}
    return (
        Ledger("test_x", "prefork", reports_lost=True, worker="cpu", tasks=tasks),
        Ledger("test_x", "gevent", reports_lost=False, worker="io", tasks=tasks),
    )


def test_a_span_is_of_the_worker_that_recorded_it_and_a_task_of_all():
    cpu, io = cluster()
    for one, task_id in ((cpu, "1"), (io, "2")):
        for record in (published(task_id), received(task_id), started(task_id), ended(task_id)):
            one.feed(record)
    assert [(span.id, span.worker, span.pool) for span in cpu.spans] == [("1", "cpu", "prefork")]
    assert [(span.id, span.worker, span.pool) for span in io.spans] == [("2", "io", "gevent")]
    assert list(cpu.tasks) == list(io.tasks) == ["1", "2"]


def test_what_one_worker_publishes_is_outstanding_for_all_until_another_has_ended_it():
    cpu, io = cluster()
    cpu.feed(published())
    assert [entry.id for entry in io.outstanding()] == ["1"]
    for record in (received(), started(), ended()):
        io.feed(record)
    assert not cpu.outstanding()


def test_a_span_knows_its_publication_although_the_trace_of_its_worker_was_read_first():
    cpu, io = cluster()
    for record in (received(), started(), ended()):
        io.feed(record)
    cpu.feed(published())
    assert io.spans[0].published == 1.0
    assert not io.outstanding()


def test_the_executions_of_one_task_are_those_of_different_workers():
    cpu, io = cluster()
    for record in (published(), received(), started(), published(retries=1), ended(state="RETRY")):
        io.feed(record)
    for record in (received(retries=1), started(retries=1, pid=20), ended(retries=1, pid=20)):
        cpu.feed(record)
    assert [(span.worker, span.state) for span in cpu.tasks["1"].spans] == [("io", "RETRY"), ("cpu", "SUCCESS")]
    assert cpu.tasks["1"].worker == "cpu"


def test_only_the_worker_whose_process_died_has_lost_a_slot():
    cpu, io = cluster()
    for one, task_id, pid in ((cpu, "1", 10), (io, "2", 20)):
        for record in (published(task_id), received(task_id), started(task_id, pid=pid)):
            one.feed(record)
    io.close_dead(lambda pid: False)
    assert (cpu.lost_slots, io.lost_slots) == (False, True)
    assert [span.state for span in (*cpu.spans, *io.spans)] == [None, LOST]


def test_of_its_own_are_the_tasks_that_a_worker_had_last_and_those_in_its_queues():
    cpu, io = cluster()
    for record in (published("1"), received("1"), started("1")):
        io.feed(record)
    for task_id, queue in (("2", "cpu"), ("3", "io"), ("4", None)):
        io.feed({**published(task_id), "queue": queue})
    assert list(cpu.own({"cpu"}).tasks) == ["2"]
    assert list(io.own({"io"}).tasks) == ["1", "3"]


def test_a_worker_alone_has_all_tasks_as_its_own():
    alone = ledger(published())
    assert alone.own(()) is alone
