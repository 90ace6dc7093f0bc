"""Which frames and lines are the user's, and how the agent reads their source."""

import ast
import sys
import types
from pathlib import Path

import pytest

from pytest_celerypool.agent import syntax
from pytest_celerypool.agent.frames import Frames, chain

#: Stands for Celery's tracer: it calls what it is given.
TRACER = "/lib/site-packages/celery/app/trace.py"


def through(filename, function):
    """Call a function from a file of that name."""
    module = types.ModuleType("made")
    exec(compile("def call(function):\n    return function()\n", filename, "exec"), vars(module))
    return module.call(function)


@pytest.fixture
def frames():
    return Frames(str(Path(__file__).parent))


def test_the_users_frame_is_the_nearest_that_is_his(frames):
    def here():
        return through("/lib/site-packages/driver.py", lambda: frames.user_frame(sys._getframe(1)))

    assert frames.place(here()).startswith("test_frames.py:")


def test_no_frame_beyond_the_point_where_celery_called_the_task_is_the_tasks(frames):
    assert through(TRACER, lambda: frames.user_frame(sys._getframe(1))) is None


def test_an_exception_is_raised_at_the_users_lines_the_innermost_first(frames):
    def inner():
        raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        through("/lib/site-packages/driver.py", inner)
    places = frames.raised_places(raised.value)
    assert ["raise KeyError" in place for place in places] == [True, *[False] * (len(places) - 1)]
    shown = [place.split(" ")[0] for place in places]
    assert shown == [f"test_frames.py:{each.line}" for each in frames.raised_at(raised.value)]


def test_a_chain_of_exceptions_has_each_once():
    one, two = KeyError("one"), ValueError("two")
    one.__context__, two.__cause__ = two, one
    assert list(chain(one)) == [one, two]


def test_a_file_is_parsed_once_and_again_where_another_thread_got_in_its_way(monkeypatch, tmp_path):
    file = tmp_path / "tasks.py"
    file.write_text("x = 1\n")
    parse, calls = ast.parse, []

    def disturbed(text):
        calls.append(text)
        if len(calls) == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=60, after=57)")
        return parse(text)

    monkeypatch.setattr(ast, "parse", disturbed)
    assert [type(node) for node in syntax.tree_of(str(file)).body] == [ast.Assign]
    assert syntax.tree_of(str(file)) is syntax.tree_of(str(file))
    assert len(calls) == 2


@pytest.mark.parametrize("text", ["def broken(:\n", "", "x = 1\n" * 100_000])
def test_what_cannot_be_read_or_is_too_long_has_no_tree(tmp_path, text):
    file = tmp_path / "tasks.py"
    file.write_text(text)
    assert syntax.tree_of(str(file)) is None
