"""What is promised of the pools is tested, measured and on the page: none of the three without the others."""

import ast
import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests/promises"
PAGE = (ROOT / "docs/promises.rst").read_text(encoding="utf-8")

WHERE, _TABLE = (ROOT / "docs/promises.csv").read_text(encoding="utf-8").split("\n", 1)
ROWS = list(csv.DictReader(_TABLE.splitlines()))


def promises(path):
    """The tests of a module, each with what it promises: the first line of its docstring."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield f"{path.stem}::{node.name}", (ast.get_docstring(node) or "").partition("\n")[0]


PROMISES = dict(promise for path in sorted(TESTS.glob("test_*.py")) for promise in promises(path))


@pytest.mark.parametrize("test", PROMISES)
def test_every_test_has_a_row_with_its_promise(test):
    """A figure of each test is in the table, beside the first line of the docstring that the test has now."""
    assert {row["promise"] for row in ROWS if row["test"] == test} == {PROMISES[test]}


def test_every_row_has_a_test():
    """Nothing is in the table that no test measures."""
    assert {row["test"] for row in ROWS} <= set(PROMISES)


def test_every_promise_of_the_page_has_a_test():
    """The page shows the figures of each module of tests, and of no other."""
    shown = re.findall(r"(?m)^\.\. celerypool-promises:: (\w+)$", PAGE)
    assert sorted(shown) == sorted(path.stem for path in TESTS.glob("test_*.py"))


def test_every_figure_is_a_number():
    """A row says what was measured, under which pool, and how much it was."""
    for row in ROWS:
        assert float(row["figure"]) >= 0
        assert row["measured"]
        assert row["pool"]


def test_the_table_says_where_it_was_measured():
    """Its first line names processors, memory and versions."""
    for word in ("processors", "GiB", "Python 3", "celery 5", "gevent", "eventlet"):
        assert word in WHERE
