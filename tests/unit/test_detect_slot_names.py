"""Which lines take the number of a slot out of the name that the pool gives it."""

import ast
import textwrap

import pytest

from pytest_celerypool.agent.detectors.sharing.slot_names import slot_name_in


def name_in(source, line):
    return slot_name_in(ast.parse(textwrap.dedent(source)), line)


@pytest.mark.parametrize(
    ("source", "line", "found"),
    [
        ("def f(record):\n    return int(record.threadName[-1])", 2, "record.threadName"),
        ("def f():\n    return PORTS[current_process().index]", 2, "current_process().index"),
        (
            "def f():\n    name = threading.current_thread().name\n    return int(name.split('_')[1])",
            3,
            "threading.current_thread().name",
        ),
    ],
)
def test_the_name_is_found_on_the_line_or_behind_a_local_name_of_it(source, line, found):
    assert name_in(source, line) == found


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def f(text):\n    log(current_thread().name)\n    return int(text)", 3),  # another line reads it
        ("def f(x):\n    raise ValueError(f'{x} in {current_thread().name}')", 2),  # it is raised on purpose
        ("def f(customer):\n    return int(customer.name)", 2),  # somebody else's name
        ("number = int(current_thread().name)", 1),  # at import
    ],
)
def test_other_lines_have_none(source, line):
    assert name_in(source, line) is None


def test_without_source_there_is_none():
    assert slot_name_in(None, 1) is None
