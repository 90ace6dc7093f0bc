"""What is kept of the executions of one test."""

import json

import pytest

from pytest_celerypool.trace import LOST, Span
from pytest_celerypool.verdict.evidence import of_test

ADD = "proj.add"


def span(started=1.0, ended=1.2, *, number=0, task=ADD, state="SUCCESS", **fields):
    fields = {"published": 0.5, "slot": f"child {number}"} | fields
    return Span(f"{number}", task, 0, "test_x", "prefork", started=started, ended=ended, state=state, **fields)


def evidence(*spans, **fields):
    return of_test(spans, **{"pool": "prefork", "column": "prefork-2", "concurrency": 2} | fields)


def test_one_entry_for_each_task():
    """Executions are gathered by the name of their task, with the pool, the column and the slots."""
    found = evidence(span(), span(task="b"), span(number=1), memory=7)
    assert [(each["task"], each["count"]) for each in found] == [(ADD, 2), ("b", 1)]
    assert {(each["pool"], each["column"], each["concurrency"], each["memory"]) for each in found} == {
        ("prefork", "prefork-2", 2, 7)
    }


def test_figures_are_in_the_order_in_which_the_executions_began():
    (found,) = evidence(span(2.0, 2.5, number=1, cpu=0.2), span(1.0, 1.25, cpu=0.1, hold=0.01))
    assert found["runtime"] == [0.25, 0.5]
    assert found["queued"] == [0.5, 1.5]
    assert found["cpu"] == [0.1, 0.2]
    assert found["hold"] == [0.01]
    assert found["makespan"] == 2.0


def test_waiting_for_a_processor_is_not_runtime():
    (found,) = evidence(span(1.0, 2.0, waited=0.75))
    assert found["runtime"] == [0.25]


def test_states_are_counted():
    (found,) = evidence(span(), span(number=1), span(state="RETRY", number=2))
    assert found["states"] == {"SUCCESS": 2, "RETRY": 1}


@pytest.mark.parametrize(
    "other",
    [
        span(None, 1.0, state="REVOKED", number=1),
        span(1.0, None, state=None, number=1),
        span(1.0, 9.0, state=LOST, number=1),
    ],
    ids=["never began", "not ended", "lost"],
)
def test_only_what_ran_and_ended_counts(other):
    """What never ran, has not ended, or lost its slot, has no figures that say anything of its task."""
    (found,) = evidence(span(), other)
    assert (found["count"], len(found["runtime"]), found["states"]) == (1, 1, {"SUCCESS": 1})
    assert evidence(other) == []


def test_it_is_plain_data():
    found = evidence(span(cpu=0.1))
    assert json.loads(json.dumps(found)) == found
