import pytest

from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import AGREE, ExpectSpec
from pytest_celerypool.pools import POOLS
from pytest_celerypool.trace import LOST, Span
from pytest_celerypool.verdict import Failure
from pytest_celerypool.verdict.expectations import MOST_FAILURES, judge

PREFORK, SOLO, THREADS, GEVENT, EVENTLET = POOLS
ADD = "proj.tasks.add"
ID = "1a2b3c4d-0000-4000-8000-000000000000"
NAMED = f"{ADD}[1a2b3c4d](2, 3) under gevent"


def span(state="SUCCESS", *, retries=0, task=ADD, task_id=ID, **fields):
    """An execution that took 12 ms and ended, unless its `state` is None."""
    fields = {"args": (2, 3), "kwargs": {}, "slot": "greenlet 1", "pid": 7, "started": 10.0} | fields
    if state is not None:
        fields.setdefault("ended", 10.012)
    return Span(task_id, task, retries, "test_x", "gevent", state=state, published=9.0, **fields)


def settled(state):
    """A task that the worker ended before a slot had it."""
    return span(state, started=None, slot=None, pid=None)


def entry(*spans, task=ADD, task_id=ID, publications=None, unknown=False):
    count = len(spans) if publications is None else publications
    return TaskEntry(
        task_id,
        task,
        publications=[(number, 9.0) for number in range(count)],
        spans=list(spans),
        unknown=unknown,
    )


def others(number, **fields):
    return [
        entry(span(task_id=f"{place:08d}", **fields), task_id=f"{place:08d}", task=fields.get("task", ADD))
        for place in range(number)
    ]


def waits_for(waiting):
    return f"{waiting.task}[{waiting.id}] is queued in 'celery', not received yet"


def failures(*tasks, pool="gevent", **spec):
    return judge(ExpectSpec(**spec), tasks, pool, waits_for)


def summaries(*tasks, **spec):
    return [failure.summary for failure in failures(*tasks, **spec)]


RETRIED = (span("RETRY", retries=0), span("RETRY", retries=1), span("SUCCESS", retries=2))
REPLACED = (span("IGNORED"), span("SUCCESS", task="proj.tasks.other"))


@pytest.mark.parametrize(
    ("spans", "spec"),
    [
        ((span(),), {"state": "SUCCESS"}),
        ((span("FAILURE"),), {"state": "FAILURE"}),
        ((settled("REVOKED"),), {"state": "REVOKED"}),
        (RETRIED, {"state": "SUCCESS", "retries": 2, "executions": 1}),
        (REPLACED, {"state": "SUCCESS"}),
        (REPLACED, {"tasks": "proj.tasks.other", "state": "SUCCESS", "executions": 1}),
        ((span("FAILURE"), span()), {"state": "SUCCESS", "executions": 2}),
        ((span("FAILURE"),), {"retries": 0}),
        ((span("FAILURE"),), {"agree": AGREE}),
    ],
)
def test_met(spans, spec):
    """A task that ended as demanded is no failure, and what is not demanded is not looked at."""
    assert failures(entry(*spans), **spec) == []


def test_lost_only_matters_to_state():
    """Where the marker says nothing of the state, a lost slot is none of its business."""
    assert failures(entry(span(LOST)), retries=0) == []


@pytest.mark.parametrize(
    ("spec_pools", "judged"), [(None, True), ((GEVENT,), True), ((PREFORK, GEVENT), True), ((PREFORK,), False)]
)
def test_pools(spec_pools, judged):
    """A marker for other pools demands nothing, not even that a task runs."""
    assert bool(failures(state="SUCCESS", pools=spec_pools)) is judged


LEFT = (
    "the slot was left by SystemExit and the like, or died, and Celery told nobody; "
    "whoever waits for the result waits for ever"
)
NO_END = "which is not an end, and no execution followed under the same id"


@pytest.mark.parametrize(
    ("spans", "spec", "text"),
    [
        ((span("FAILURE"),), {"state": "SUCCESS"}, "expected state=SUCCESS, found FAILURE"),
        ((span(),), {"state": "FAILURE"}, "expected state=FAILURE, found SUCCESS"),
        ((span("IGNORED"),), {"state": "SUCCESS"}, f"expected state=SUCCESS, found IGNORED, {NO_END}"),
        ((span("RETRY"),), {"state": "FAILURE"}, f"expected state=FAILURE, found RETRY, {NO_END}"),
        ((span(LOST),), {"state": "FAILURE"}, f"expected state=FAILURE, found LOST: {LEFT}"),
        ((span(), span("FAILURE")), {"state": "SUCCESS"}, "expected state=SUCCESS, found FAILURE"),
        ((span(),), {"retries": 2}, "expected retries=2, found 0"),
        (RETRIED, {"retries": 0}, "expected retries=0, found 2"),
        ((span(), span()), {"executions": 1}, "expected executions=1, found 2 with retries=0"),
        ((span(),), {"executions": 2}, "expected executions=2, found 1 with retries=0"),
        (
            (*RETRIED, *RETRIED),
            {"executions": 1},
            "expected executions=1, found 2 with retries=0, 2 with retries=1, 2 with retries=2",
        ),
        (
            (*RETRIED, span(retries=2)),
            {"executions": 1},
            "expected executions=1, found 2 with retries=2",
        ),
        (REPLACED, {"executions": 1}, "expected executions=1, found 2 with retries=0"),
    ],
)
def test_not_met(spans, spec, text):
    """One line names the task, the pool, what was demanded and what was found."""
    assert summaries(entry(*spans), **spec) == [f"{NAMED}: {text}"]


def test_a_task_ended_before_a_slot_had_it_was_not_executed():
    """What was revoked in the queue counts as no execution."""
    assert summaries(entry(settled("REVOKED")), executions=1) == [
        f"{ADD}[1a2b3c4d] under gevent: expected executions=1, found 0 with retries=0"
    ]


def test_each_demand_fails_on_its_own():
    """A task that fails three demands is told of three times."""
    found = summaries(entry(span("FAILURE"), span("FAILURE")), state="SUCCESS", retries=1, executions=1)
    assert [text.removeprefix(f"{NAMED}: ") for text in found] == [
        "expected state=SUCCESS, found FAILURE",
        "expected retries=1, found 0",
        "expected executions=1, found 2 with retries=0",
    ]


@pytest.mark.parametrize(
    ("spans", "detail"),
    [
        ((span("FAILURE", exception="ValueError('no')"),), "ValueError('no')"),
        ((span("FAILURE"),), ""),
        (
            (span("RETRY", exception="OSError('x')"), span("FAILURE", retries=1, exception="ValueError('no')")),
            "retries=0 RETRY in greenlet 1 after 12 ms: OSError('x')\n"
            "retries=1 FAILURE in greenlet 1 after 12 ms: ValueError('no')",
        ),
        (
            (span("IGNORED"), span("FAILURE", task="proj.tasks.other", exception="ValueError('no')")),
            "retries=0 IGNORED in greenlet 1 after 12 ms\n"
            "proj.tasks.other retries=0 FAILURE in greenlet 1 after 12 ms: ValueError('no')",
        ),
    ],
)
def test_detail(spans, detail):
    """Where the state differs, what the task raised is shown, execution by execution."""
    assert [failure.detail for failure in failures(entry(*spans), state="SUCCESS")] == [detail]


def test_duplicates_show_where_they_ran():
    """The detail of too many executions lists them with their slots, those still running too."""
    running = entry(span(), span(None, slot="greenlet 2"), publications=1)
    assert failures(running, executions=1)[-1].detail == (
        "retries=0 SUCCESS in greenlet 1 after 12 ms\nretries=0 not ended in greenlet 2"
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"state": "SUCCESS"}, "state=SUCCESS"),
        ({"state": "FAILURE", "retries": 3}, "state=FAILURE, retries=3"),
        ({"executions": 1}, "executions=1"),
        ({"agree": AGREE}, "the same end under every pool"),
    ],
)
def test_not_ended(spec, expected):
    """A task that has not ended fails whatever is demanded, with what it waits for."""
    assert summaries(entry(publications=1), **spec) == [
        f"{ADD}[1a2b3c4d] under gevent: expected {expected}, not ended: it is queued in 'celery', not received yet"
    ]


def test_not_ended_between_two_executions():
    """A task whose retry is still to come has not ended, whatever its last execution was."""
    assert summaries(entry(span("RETRY"), publications=2), state="SUCCESS") == [
        f"{NAMED}: expected state=SUCCESS, not ended: it is queued in 'celery', not received yet"
    ]


def test_not_ended_and_begun_too_often_already():
    """A second execution that is still running is a duplicate all the same."""
    assert summaries(entry(span(), span(None), publications=1), executions=1)[1:] == [
        f"{NAMED}: expected executions=1, found 2 with retries=0"
    ]


def test_not_ended_and_not_begun_often_enough_yet():
    """What may still come is not missing."""
    assert len(summaries(entry(span(None), publications=2), executions=2)) == 1


def test_unknown():
    """A task that is not registered never ran, which is not the same as waiting."""
    told = judge(
        ExpectSpec(state="SUCCESS"),
        [entry(unknown=True, publications=1)],
        "gevent",
        lambda waiting: f"{waiting.task}[{waiting.id}] is not registered in the gevent worker",
    )
    assert told == [
        Failure(
            f"{ADD}[1a2b3c4d] under gevent: expected state=SUCCESS, never ran: "
            "it is not registered in the gevent worker"
        )
    ]


SILENT = "it would have said nothing."


@pytest.mark.parametrize(
    ("tasks", "pattern", "text"),
    [
        ([], "*", f"the test ran no task at all: {SILENT}"),
        (
            others(3),
            "proj.tasks.ad",
            f"no task of the test matches: {SILENT} What ran instead: {ADD} (3 times). Did you mean {ADD!r}?",
        ),
        (
            others(1),
            "add",
            f"no task of the test matches: {SILENT} What ran instead: {ADD}. Did you mean {ADD!r}?",
        ),
        (
            others(1),
            "mail.*",
            f"no task of the test matches: {SILENT} What ran instead: {ADD}.",
        ),
        (
            others(1, task="celery.chord_unlock"),
            "*",
            f"no task of the test matches: {SILENT} What ran instead: celery.chord_unlock. "
            "'*' leaves out Celery's own tasks.",
        ),
    ],
)
def test_no_match(tasks, pattern, text):
    """A marker that speaks of no task fails, and says what it could have spoken of."""
    assert summaries(*tasks, tasks=pattern, state="SUCCESS") == [
        f"celery_expect(tasks={pattern!r}) under gevent: {text}"
    ]


def test_no_match_lists_some_names():
    """A test with very many tasks does not drown the message."""
    tasks = [entry(span(task=f"t{n}"), task=f"t{n}", task_id=str(n)) for n in range(12)]
    assert "t8, t9, and 2 more." in summaries(*tasks, tasks="x", state="SUCCESS")[0]


def test_own_tasks_of_celery_are_left_out():
    """`*` is not about the tasks that Celery itself adds."""
    unlock = entry(span("FAILURE", task="celery.chord_unlock"), task="celery.chord_unlock", task_id="x")
    assert failures(entry(span()), unlock, state="SUCCESS") == []


def test_many_failures_are_summed_up():
    """The tasks beyond the first ones are counted."""
    found = summaries(*others(MOST_FAILURES + 5, state="FAILURE"), *others(1), state="SUCCESS")
    assert (len(found), found[-1]) == (
        MOST_FAILURES + 1,
        f"… and 5 more of {MOST_FAILURES + 6} tasks under gevent: expected state=SUCCESS",
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "shown"),
    [
        ((), {}, "()"),
        ((2,), {"by": "a"}, "(2, by='a')"),
        ("(<Order 3>,)", {}, "(<Order 3>)"),
        ("(<Order 3>, 4)", "{'by': <User 1>}", "(<Order 3>, 4, **{'by': <User 1>})"),
        ((1, 2, ...), {}, "(1, 2, …)"),
        ("(<a\nb>,)", None, "(<a b>)"),
        (("x" * 100,), {}, f"('{'x' * 38}…{'x' * 19}')"),
    ],
)
def test_arguments(args, kwargs, shown):
    """Arguments tell the tasks of a test apart and keep to their one line."""
    text = summaries(entry(span("FAILURE", args=args, kwargs=kwargs)), state="SUCCESS")[0]
    assert text.partition(" under ")[0] == f"{ADD}[1a2b3c4d]{shown}"


def test_failure_renders_itself():
    """The detail stands below the summary, and no empty line where there is none."""
    assert [str(Failure("a", "b\nc")), str(Failure("a"))] == ["a\nb\nc", "a"]


# -- which worker of a cluster


def in_cluster(*tasks, **spec):
    found = judge(ExpectSpec(**spec), tasks, "the cluster", waits_for, ["cpu", "io"])
    return [failure.summary for failure in found]


def test_a_task_that_the_expected_worker_ran_passes():
    assert not in_cluster(entry(span(worker="io")), worker="io")


def test_a_task_that_another_worker_ran_fails_and_all_is_told_of_who_ran_what():
    ran = [entry(span(worker="io")), entry(span(worker="cpu", task_id="2" * 8), task_id="2" * 8)]
    assert in_cluster(*ran, worker="cpu") == [
        f"{NAMED} (worker 'io'): expected worker='cpu', found 'io'",
        f"celery_expect(worker='cpu'): cpu ran {ADD}; io ran {ADD}",
    ]


def test_a_worker_that_ran_none_of_them_is_told_too():
    assert in_cluster(entry(span(worker="io")), worker="cpu")[-1].endswith("cpu ran none of them; io ran " + ADD)


def test_every_execution_has_to_be_by_the_expected_worker():
    moved = entry(span("RETRY", worker="io"), span(retries=1, worker="cpu"))
    (failure, _) = judge(ExpectSpec(worker="cpu"), [moved], "the cluster", waits_for, ["cpu", "io"])
    assert failure.summary == f"{NAMED} (worker 'cpu'): expected worker='cpu', found 'io'"
    assert failure.detail.splitlines() == [
        "retries=0 RETRY in greenlet 1 of 'io' after 12 ms",
        "retries=1 SUCCESS in greenlet 1 of 'cpu' after 12 ms",
    ]


def test_a_task_that_has_not_begun_fails_the_expectation_of_a_worker():
    (text,) = in_cluster(entry(publications=1), worker="cpu")
    assert "under the cluster: expected worker='cpu', not ended: it is queued" in text


def test_in_a_cluster_a_failure_names_the_worker_that_had_the_task():
    (text,) = in_cluster(entry(span("FAILURE", worker="io")), state="SUCCESS")
    assert text == f"{NAMED} (worker 'io'): expected state=SUCCESS, found FAILURE"
