import json
from itertools import permutations
from types import SimpleNamespace

import pytest

from pytest_celerypool.judge import _stored_result
from pytest_celerypool.ledger import TaskEntry
from pytest_celerypool.markers import AGREE
from pytest_celerypool.trace import Span
from pytest_celerypool.verdict.agreement import OVERWRITTEN, compare, facts

ADD = "proj.tasks.add"


def entry(*states, task=ADD, task_id="x", error=None, retries=0, publications=None, unknown=False):
    spans = [Span(task_id, task, retries, "test_x", "solo", started=1.0, ended=2.0, state=state) for state in states]
    if error is not None:
        spans[-1].error = {"type": error, "module": "builtins", "args": [], "text": f"{error}()"}
    count = len(spans) if publications is None else publications
    return TaskEntry(task_id, task, publications=[(0, 0.0)] * count, spans=spans, unknown=unknown)


def side(*results, state="SUCCESS", task=ADD, fields=AGREE):
    """The facts of a pool under which a task ended once with each of these results."""
    tasks = [entry(state, task=task, task_id=str(number)) for number in range(len(results))]
    return facts(tasks, fields, {str(number): result for number, result in enumerate(results)}, "*")


@pytest.mark.parametrize(
    ("task", "results", "end"),
    [
        (entry("SUCCESS"), {"x": "5"}, {"state": "SUCCESS", "retries": 0, "exception": None, "result": "5"}),
        (
            entry("RETRY", "FAILURE", retries=1, error="ValueError"),
            {"x": "ValueError()"},
            {"state": "FAILURE", "retries": 1, "exception": "ValueError", "result": "ValueError()"},
        ),
        (
            entry(publications=1),
            {"x": "not ended"},
            {"state": "not ended", "retries": 0, "exception": None, "result": "not ended"},
        ),
        (
            entry("RETRY", error="OSError", publications=2),
            {},
            {"state": "not ended", "retries": 0, "exception": None, "result": None},
        ),
        (
            entry(unknown=True),
            {},
            {"state": "not registered", "retries": 0, "exception": None, "result": None},
        ),
    ],
)
def test_facts(task, results, end):
    """Of each task id its end is kept."""
    assert facts([task], AGREE, results, "*") == {ADD: [end]}


@pytest.mark.parametrize("fields", [("state",), ("retries", "result"), AGREE])
def test_facts_are_those_asked_for(fields):
    """A field that is not compared is not kept."""
    assert tuple(facts([entry("SUCCESS")], fields, {}, "*")[ADD][0]) == fields


def test_facts_are_of_the_tasks_asked_for():
    """A marker for some tasks compares those alone, and never Celery's own."""
    tasks = [entry("SUCCESS"), entry("SUCCESS", task="celery.chord_unlock"), entry("SUCCESS", task="mail.send")]
    assert [list(facts(tasks, AGREE, {}, pattern)) for pattern in ("*", "mail.*")] == [
        [ADD, "mail.send"],
        ["mail.send"],
    ]


def test_facts_do_not_hang_on_order():
    """Tasks that end in another order end alike."""
    tasks = [entry("SUCCESS", task_id="a"), entry("FAILURE", task_id="b"), entry("SUCCESS", task_id="c", retries=1)]
    assert len({json.dumps(facts(order, AGREE, {}, "*")) for order in permutations(tasks)}) == 1


def test_facts_do_not_hang_on_addresses():
    """Where an object lies in memory is no difference."""
    assert side("<Order object at 0x7f01>") == side("<Order object at 0x7fab>")


def test_facts_survive_json():
    """What travels with a report compares like what does not."""
    found = side("5", "(1, 2)")
    assert compare({"prefork": found, "gevent": json.loads(json.dumps(found))}) is None


@pytest.mark.parametrize(
    "sides",
    [
        {},
        {"prefork": side("5")},
        {"prefork": side("5", "6"), "gevent": side("6", "5"), "solo": side("5", "6")},
        {"prefork": side(), "gevent": side()},
        {"prefork": side("5", OVERWRITTEN), "gevent": side("6", "7")},
    ],
)
def test_agreement(sides):
    """The same ends, as often, are agreement."""
    assert compare(sides) is None


HEAD = f"{ADD} ended differently from pool to pool"


@pytest.mark.parametrize(
    ("sides", "lines"),
    [
        (
            {"prefork": side("5"), "gevent": side("6"), "solo": side("5")},
            [
                f"{HEAD}:",
                "  prefork, solo: SUCCESS, retries=0, result=5",
                "  gevent:        SUCCESS, retries=0, result=6",
            ],
        ),
        (
            {"prefork": side("5", "5", "5"), "gevent": side("5", "6", "6")},
            [
                f"{HEAD}, apart from 1 that ended alike:",
                "  prefork: 2 x SUCCESS, retries=0, result=5",
                "  gevent:  2 x SUCCESS, retries=0, result=6",
            ],
        ),
        (
            {"prefork": side("5", "5"), "gevent": side("5")},
            [
                f"{HEAD}, apart from 1 that ended alike:",
                "  prefork: SUCCESS, retries=0, result=5",
                "  gevent:  nothing more",
            ],
        ),
        (
            {"prefork": side("5"), "gevent": side()},
            [f"{HEAD}:", "  prefork: SUCCESS, retries=0, result=5", "  gevent:  no such task"],
        ),
        (
            {
                "prefork": facts([entry("FAILURE", error="SoftTimeLimitExceeded")], AGREE, {}, "*"),
                "gevent": facts([entry("SUCCESS")], AGREE, {}, "*"),
            },
            [
                f"{HEAD}:",
                "  prefork: FAILURE, retries=0, SoftTimeLimitExceeded",
                "  gevent:  SUCCESS, retries=0",
            ],
        ),
        (
            {
                "prefork": facts([entry("FAILURE", error="ValueError")], ("exception",), {}, "*"),
                "gevent": facts([entry("SUCCESS")], ("exception",), {}, "*"),
            },
            [f"{HEAD}:", "  prefork: ValueError", "  gevent:  no exception"],
        ),
        (
            {
                "prefork": facts([entry("SUCCESS")], ("result",), {"x": "5"}, "*"),
                "gevent": facts([entry("SUCCESS")], ("result",), {}, "*"),
            },
            [f"{HEAD}:", "  prefork: result=5", "  gevent:  no result"],
        ),
        (
            {
                "prefork": side(OVERWRITTEN, task="b") | side("5"),
                "gevent": side("6", state="FAILURE", task="b") | side("5"),
            },
            [
                "b ended differently from pool to pool:",
                "  prefork: SUCCESS, retries=0",
                "  gevent:  FAILURE, retries=0",
            ],
        ),
        (
            {"prefork": side("5") | side("1", task="b"), "gevent": side("6") | side("2", task="b")},
            [
                f"{HEAD}:",
                "  prefork: SUCCESS, retries=0, result=5",
                "  gevent:  SUCCESS, retries=0, result=6",
                "",
                "b ended differently from pool to pool:",
                "  prefork: SUCCESS, retries=0, result=1",
                "  gevent:  SUCCESS, retries=0, result=2",
            ],
        ),
        (
            {"prefork": side(*"1234567", fields=("result",)), "gevent": side("8", fields=("result",))},
            [
                f"{HEAD}:",
                "  prefork: result=1; result=2; result=3; result=4; result=5; … and 2 other ends",
                "  gevent:  result=8",
            ],
        ),
    ],
)
def test_disagreement(sides, lines):
    """The sides stand below one another, pools that agree on one line, without what all have in common."""
    assert compare(sides).splitlines() == lines


def test_long_results_are_shortened():
    """What is too long for a line loses its middle."""
    found = compare({"prefork": side("a" * 200, fields=("result",)), "gevent": side("b", fields=("result",))})
    assert found.splitlines()[1] == f"  prefork: result={'a' * 66}…{'a' * 33}"


@pytest.mark.parametrize("tail", ["", "z" * 300])
def test_shortening_does_not_hide_the_difference(tail):
    """Where long results begin alike, what is shown begins where they do not."""
    one, other = (
        compare(
            {
                "prefork": side("a" * 300 + "1" + tail, fields=("result",)),
                "gevent": side("a" * 300 + "2" + tail, fields=("result",)),
            }
        )
        .replace("z", "")
        .splitlines()[1:]
    )
    assert (one[:40], other[:40]) == (f"  prefork: result=…{'a' * 20}1", f"  gevent:  result=…{'a' * 20}2")


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ({"status": "SUCCESS", "result": 5}, "5"),
        ({"status": "PENDING", "result": None}, "None"),  # it ignores its result
        ({"status": "RETRY", "result": None}, OVERWRITTEN),
        ({"status": "STARTED", "result": {"pid": 1}}, OVERWRITTEN),
    ],
)
def test_what_the_backend_has_of_an_earlier_moment_is_no_result(stored, text):
    """Celery may store RETRY after the SUCCESS of the retry."""
    assert _stored_result(SimpleNamespace(get_task_meta=lambda _: stored), "x") == text
