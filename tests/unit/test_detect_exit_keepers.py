"""What is kept by objects until the exit of the process, and what of it was not there at the fork."""

import functools
import json
import os
import types
import weakref

import pytest

from pytest_celerypool.agent.detectors.promises.exit_keepers import copies_of, filled_since, keeper_of


class Spool:
    """Keeps entries until somebody flushes it."""

    def __init__(self):
        self.entries, self.folder, self.clients = [], os.sep, [object()]

    def flush(self):
        json.dumps(self.entries)
        self.entries.clear()

    def forget(self):
        self.entries.clear()

    def close(self):
        for client in self.clients:
            client.close()


def write(path, totals):
    """As a function of the user's."""
    return path, totals


def keeps(called, *args):
    return keeper_of(called, args, "atexit", lambda file: file == __file__)


def is_lost(keeper, fill):
    before = copies_of([keeper])
    fill()
    return filled_since(keeper, before)


@pytest.mark.parametrize(
    "called", [lambda spool: spool.flush, lambda spool: functools.partial(write, "f", spool.entries)]
)
def test_what_tasks_leave_in_a_container_of_the_call_is_lost(called):
    spool = Spool()
    why = is_lost(keeps(called(spool)), lambda: spool.entries.append({"user": 1}))
    assert "holds 1 of what tasks have left there" in why


def test_what_a_function_gets_as_an_argument_counts_too():
    totals = {}
    assert "totals holds 1" in is_lost(keeps(write, "path", totals), lambda: totals.update(a=1))


def test_what_was_there_at_the_fork_already_is_the_parents():
    spool = Spool()
    spool.entries.append("made at import")
    keeper = keeps(spool.flush)
    assert is_lost(keeper, lambda: None) is None
    assert is_lost(keeper, lambda: spool.entries.append("of a task")) is not None


def test_what_is_no_plain_data_is_let_go_by_the_end_of_the_process():
    spool = Spool()
    assert is_lost(keeps(spool.close), lambda: spool.clients.append(object())) is None


class Watched(list):
    """A container of the user's: nothing of its code is run."""

    def copy(self):
        raise AssertionError("called")


def test_a_container_of_the_users_own_class_is_left_alone():
    spool = Spool()
    spool.entries = Watched(["entry"])
    assert "entries" not in str(keeps(spool.flush))


@pytest.mark.parametrize("called", [Spool().forget, len, json.dumps, functools.partial(write, "path")])
def test_calls_that_only_empty_what_is_kept_and_those_of_libraries_keep_nothing(called):
    assert keeps(called) is None


class Made:
    """What a task of a child has made."""


@pytest.mark.parametrize(("kept", "filled", "told"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_what_a_task_has_made_for_the_exit_is_lost_if_the_program_keeps_it(monkeypatch, kept, filled, told):
    from pytest_celerypool.agent.detectors.promises import exit_handlers

    reports, made, totals = [], Made(), {}
    detector = object.__new__(exit_handlers.ExitHandlers)
    detector._made, detector._done, detector.resting = [], set(), set()
    detector._reaches = types.SimpleNamespace(of=lambda _: types.SimpleNamespace(functions=set()))
    detector.watch = types.SimpleNamespace(
        current=lambda: "run", frames=types.SimpleNamespace(is_user=lambda file: file == __file__)
    )
    detector._report_lost = lambda *about: reports.append(about)
    monkeypatch.setattr(exit_handlers, "walk", lambda _, wanted: [made] if kept and wanted(made) else [])
    finalizer = weakref.finalize(made, write, "path", totals)
    detector._on_finalize(None, finalizer, made, write, "path", totals)
    if filled:
        totals["a"] = 1
    for _ in range(2):
        detector._look_at_made("run")
    finalizer.detach()
    assert len(reports) == told
