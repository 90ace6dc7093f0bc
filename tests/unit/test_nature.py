"""A failure that lies in the nature of a pool is told apart, and no other is."""

import pytest

from pytest_celerypool.pools import POOLS, pool
from pytest_celerypool.verdict.nature import reasons


def test_a_demand_that_the_pool_meets_is_no_reason():
    assert reasons(pool("prefork"), ["enforces_soft_time_limit"], "") == []


@pytest.mark.parametrize("each", POOLS[1:], ids=str)
def test_a_demand_that_it_does_not_meet_is_one_line_with_its_name(each):
    (line,) = reasons(each, ["enforces_soft_time_limit"], "")
    assert line == (
        f"the test gives a task a soft time limit, which {each} does not enforce: "
        "a property of the pool, perhaps no defect"
    )


@pytest.mark.parametrize(
    "text",
    [
        "AssertionError: Expected 'mock' to have been called once. Called 0 times.",
        "AssertionError: Expected 'send' to be called once. Called 0 times.",
        "AssertionError: expected call not found.\nExpected: mock(1)\nActual: not called.",
        "E  assert 1 == 2\nE  +  where 1 = <MagicMock name='get_task' id='1'>.call_count",
        "E  assert False\nE  +  where False = <function generate_lock at 0x7f>.called",
    ],
)
def test_a_mock_that_no_child_can_reach(text):
    (line,) = reasons(pool("prefork"), [], text)
    assert "the tasks of prefork run in others" in line
    assert reasons(pool("threads"), [], text) == []


def test_of_a_custom_pool_nothing_is_said():
    assert reasons(pool("pkg.module:TaskPool"), ["enforces_soft_time_limit"], "") == []
