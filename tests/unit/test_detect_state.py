"""State of the process and of slots: who changes it beside whom, and what is left; without a worker."""

import ast
import contextlib
import contextvars
import csv
import importlib
import json
import os
import socket
import sys
import threading
import time
import types
import warnings
from unittest import mock

import billiard.process
import pytest
import structlog.contextvars

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.code.calls import flow_of_task
from pytest_celerypool.agent.detectors.code.standing import Reader
from pytest_celerypool.agent.detectors.state import assigned
from pytest_celerypool.agent.detectors.state import of_modules as state_of_modules
from pytest_celerypool.agent.detectors.state import sources as state_sources
from pytest_celerypool.agent.detectors.state.assigned import Assigned
from pytest_celerypool.agent.detectors.state.changes import Subject, report_left
from pytest_celerypool.agent.detectors.state.ledger import Ledger
from pytest_celerypool.agent.detectors.state.process import State, WatchedPath
from pytest_celerypool.agent.detectors.state.slot import SlotState
from pytest_celerypool.agent.detectors.state.threads import Threads
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run


class GreenRun(Run):
    """A run of a green pool knows since when it has the hub."""

    __slots__ = ("since",)


class FakeWatch:
    """What a detector sees of a worker."""

    def __init__(self, root, pool="gevent", *, launch="inprocess"):
        self.pool = types.SimpleNamespace(name=pool, green=pool in ("gevent", "eventlet"), forks=pool == "prefork")
        self.frames = Frames(str(root))
        self.launch = launch
        self.recorder = types.SimpleNamespace(running={})
        self.now = None
        self.found = []
        self.starts = 0

    def run(self, name):
        run = GreenRun(name, types.SimpleNamespace(name=name, run=lambda: None), "")
        run.since = 0.0
        return run

    def begin(self, run, *detectors):
        self.recorder.running[run.id] = run
        run.since = time.monotonic()
        self.starts += 1
        run.number = self.starts if len(self.recorder.running) == 1 else -self.starts  # as the watch of a worker does
        for detector in detectors:
            if (run.task.name, "started") not in getattr(detector, "passed", ()):
                detector.started(run)
        return run

    def end(self, run, *detectors, exc=None):
        del self.recorder.running[run.id]
        for detector in detectors:
            if (run.task.name, "ended") not in getattr(detector, "passed", ()):
                detector.ended(run, "SUCCESS", exc) if hasattr(detector, "watch") else detector.ended(run)
            if exc is not None:
                detector.failed(run, "FAILURE", exc)

    def bind(self):
        """Do nothing: this asks each time."""

    def forget(self, _task):
        """Do nothing either."""

    def current(self):
        return self.now

    def running(self):
        return list(self.recorder.running.values())

    def guarded(self, _detector, callback):
        return callback

    def report(self, kind, run, message, evidence, remedy, *, others=(), **_):
        self.found.append((kind, run.id, message, list(evidence), [other.id for other in others]))

    @property
    def kinds(self):
        return [each[0] for each in self.found]


@pytest.fixture
def watch(tmp_path):
    return FakeWatch(tmp_path)


@pytest.fixture
def ledger(watch):
    return Ledger(watch)


HERE = Subject("here", "the directory", "stay")


def sets(ledger, run, old, new, subject=HERE):
    ledger.changed(subject, old, new, run, None)


def goes_on(run):
    run.since = time.monotonic()


# -- the ledger


def test_what_is_put_back_while_nobody_ran_is_nothing(watch, ledger):
    other, run = watch.begin(watch.run("other"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, run, 1, 2)
    sets(ledger, run, 2, 1)
    goes_on(other)
    watch.end(run, ledger)
    watch.end(other, ledger)
    assert watch.found == []


def test_who_ran_while_it_was_changed_is_named_when_he_ends(watch, ledger):
    other, run = watch.begin(watch.run("other"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, run, 1, 2)
    goes_on(other)
    sets(ledger, run, 2, 1)
    watch.end(run, ledger)
    assert watch.found == []
    watch.end(other, ledger)
    ((kind, who, message, _, others),) = watch.found
    assert (kind, who, others) == ("state-changed", "run", ["other"])
    assert "changed the directory from 1 to 2 while other[other] ran in the same process" in message


def test_who_waits_for_his_turn_and_then_sets_it_is_not_hurt(watch, ledger):
    run, waits = watch.begin(watch.run("run"), ledger), watch.run("waits")
    sets(ledger, run, 1, 2)
    watch.begin(waits, ledger)
    sets(ledger, run, 2, 1)
    goes_on(waits)
    sets(ledger, waits, 1, 3)
    goes_on(run)
    watch.end(run, ledger)
    sets(ledger, waits, 3, 1)
    watch.end(waits, ledger)
    assert watch.found == []


def test_who_sets_it_within_the_time_of_another_is_hurt(watch, ledger):
    one, other = watch.begin(watch.run("one"), ledger), watch.begin(watch.run("other"), ledger)
    sets(ledger, one, 1, 2)
    goes_on(other)
    sets(ledger, other, 2, 2)
    goes_on(one)
    sets(ledger, one, 2, 1)
    assert watch.kinds == ["state-changed"]


def test_two_that_set_it_and_never_put_it_back_hurt_the_first(watch, ledger):
    first, second = watch.begin(watch.run("first"), ledger), watch.begin(watch.run("second"), ledger)
    sets(ledger, first, 1, 2)
    goes_on(second)
    sets(ledger, second, 2, 3)
    watch.end(second, ledger)
    goes_on(first)
    watch.end(first, ledger)
    assert ("state-changed", "second", ["first"]) in [(kind, who, others) for kind, who, _, _, others in watch.found]


def test_the_same_value_by_every_task_is_only_left_once(watch, ledger):
    runs = [watch.begin(watch.run(f"run{number}"), ledger) for number in range(3)]
    value = 1
    for run in runs:
        goes_on(run)
        sets(ledger, run, value, 2)
        value = 2
    for run in runs:
        goes_on(run)
        watch.end(run, ledger)
    assert watch.kinds == ["state-left"]


def test_a_strict_subject_hurts_whoever_has_not_set_it(watch, ledger):
    strict = Subject("mask", "the mask", "do not", grade="strict")
    other, run = watch.begin(watch.run("other"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, run, 1, 2, strict)
    goes_on(other)
    watch.end(run, ledger)
    assert watch.kinds == ["state-changed"]


def test_an_own_subject_hurts_only_those_that_set_it_themselves(watch, ledger):
    own = Subject("seed", "the seed", "do not", grade="own")
    other, run = watch.begin(watch.run("other"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, run, 1, 2, own)
    goes_on(other)
    sets(ledger, run, 2, 1, own)
    watch.end(other, ledger)
    assert watch.found == []


def test_the_next_task_that_got_what_was_left_is_named(watch, ledger):
    run = watch.begin(watch.run("run"), ledger)
    sets(ledger, run, 1, 2)
    watch.end(run, ledger)
    heir = watch.begin(watch.run("heir"), ledger)
    watch.end(heir, ledger)
    assert [(kind, others) for kind, _, _, _, others in watch.found] == [("state-left", []), ("state-left", ["heir"])]


def test_a_next_task_that_sets_its_own_is_not_named(watch, ledger):
    run = watch.begin(watch.run("run"), ledger)
    sets(ledger, run, 1, 2)
    watch.end(run, ledger)
    heir = watch.begin(watch.run("heir"), ledger)
    sets(ledger, heir, 2, 2)
    watch.end(heir, ledger)
    assert [others for _, _, _, _, others in watch.found] == [[]]


def test_what_somebody_else_puts_back_is_nothing(watch, ledger):
    run = watch.begin(watch.run("run"), ledger)
    sets(ledger, run, 1, 2)
    ledger.changed(HERE, 2, 1, None, None)
    watch.end(run, ledger)
    assert watch.found == []


def test_what_another_task_has_overwritten_is_not_left(watch, ledger):
    run, other = watch.begin(watch.run("run"), ledger), watch.begin(watch.run("other"), ledger)
    sets(ledger, run, 1, 2)
    sets(ledger, other, 2, 5)
    sets(ledger, other, 5, 2)
    sets(ledger, other, 2, 1)
    watch.end(other, ledger)
    watch.end(run, ledger)
    assert "state-left" not in [kind for kind, who, *_ in watch.found if who == "run"]


def test_whose_code_has_returned_is_not_hurt_while_his_result_is_stored(watch, ledger):
    first, run = watch.begin(watch.run("first"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, first, 1, 5)
    first.over = True
    sets(ledger, run, 5, 2)
    goes_on(first)
    watch.end(first, ledger)
    assert watch.found == []


def test_whose_turn_is_over_is_not_hurt_even_if_his_value_was_there_before(watch, ledger):
    """One of three zones is the one that the process has anyway."""
    first, run = watch.begin(watch.run("first"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, first, 1, 1)
    sets(ledger, first, 1, 1)
    sets(ledger, run, 1, 2)
    goes_on(first)
    watch.end(first, ledger)
    assert watch.found == []


def test_who_sets_what_another_has_set_for_it_by_chance_means_it(watch, ledger):
    first, run = watch.begin(watch.run("first"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, first, 1, 1)
    sets(ledger, run, 1, 3)
    sets(ledger, first, 3, 3)
    sets(ledger, run, 3, 4)
    watch.end(run, ledger)
    other = watch.begin(watch.run("other"), ledger)
    sets(ledger, other, 4, 5)
    goes_on(first)
    watch.end(first, ledger)
    assert ("state-changed", "other", ["first"]) in [(kind, who, hurt) for kind, who, _, _, hurt in watch.found]


def test_whose_value_was_there_before_and_is_meant_to_stay_is_hurt(watch, ledger):
    first, run = watch.begin(watch.run("first"), ledger), watch.begin(watch.run("run"), ledger)
    sets(ledger, first, 1, 1)
    sets(ledger, run, 1, 2)
    goes_on(first)
    watch.end(first, ledger)
    assert watch.kinds == ["state-changed"]


# -- who does it


USER = """
import codecs, contextlib, csv, os, sys, warnings
from unittest import mock

def environment(): os.environ["STATE_A"] = "1"
def default(): os.environ.setdefault("STATE_A", "1")
def update(): os.environ.update(STATE_A="1")
def patched():
    with mock.patch.dict(os.environ, {"STATE_A": "1"}):
        return dict(os.environ)
def directory(path): os.chdir(path)
def mask(): os.umask(0o027)
def silence():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
def descriptor():
    with open(os.devnull, "w") as file: os.dup2(file.fileno(), 2)
def another_descriptor(fd): os.dup2(fd, fd)
def digits(): sys.set_int_max_str_digits(5000)
def handler(name): codecs.register_error(name, lambda error: ("", error.end))
def format(registry): registry.disable("json")
def dialect(name): csv.register_dialect(name, delimiter=";")
def import_time():
    exec(compile('import os; os.environ["STATE_A"] = "1"', __file__, "exec"))
"""

#: Where Celery calls tasks; who is not called from there is of no interest.
TRACE = "def call(function, *args):\n    return function(*args)\n"


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A module of the user's whose functions are called as Celery calls tasks."""
    path = tmp_path / "user.py"
    path.write_text(USER)
    module = types.ModuleType("user")
    module.__file__ = str(path)
    exec(compile(USER, str(path), "exec"), module.__dict__)
    trace = {}
    exec(compile(TRACE, os.path.join(os.sep, "lib", "celery", "app", "trace.py"), "exec"), trace)
    monkeypatch.delenv("STATE_A", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda name, *args: trace["call"](getattr(module, name), *args)


@pytest.fixture
def state(watch):
    detector = State(watch)
    detector.install()
    yield detector
    detector.remove()


@pytest.fixture
def task(watch, state):
    """A task that runs, in whose slot everything of this test happens."""
    watch.now = watch.begin(watch.run("task"), state)
    yield watch.now
    watch.now = None


def finish(watch, state):
    run, watch.now = watch.now, None
    watch.end(run, state)
    return watch.found


@pytest.mark.parametrize("name", ["environment", "default", "update"])
def test_the_line_of_the_user_is_named(watch, state, task, user, name):
    user(name)
    ((kind, _, message, evidence, _),) = finish(watch, state)
    assert kind == "state-left"
    assert "left os.environ['STATE_A'] changed from None to '1'" in message
    assert evidence[0].startswith(f"user.py:{USER[: USER.index(f'def {name}')].count(chr(10)) + 1} in {name}: ")


def test_a_mapping_that_mock_puts_back_as_a_whole_is_nothing(watch, state, task, user):
    assert user("patched")["STATE_A"] == "1"
    assert finish(watch, state) == []


def test_nobody_outside_of_a_task_is_accused(watch, state, monkeypatch, tmp_path):
    other = watch.begin(watch.run("other"), state)
    monkeypatch.setenv("STATE_A", "2")
    monkeypatch.chdir(tmp_path)
    watch.end(other, state)
    assert watch.found == []


def test_what_this_process_does_itself_is_not_a_tasks(watch, state, task, tmp_path):
    os.environ["STATE_B"] = "not called by Celery"
    del os.environ["STATE_B"]
    assert finish(watch, state) == []


def test_a_module_that_is_imported_meanwhile_may_set_up_what_it_needs(watch, state, task, user):
    user("import_time")
    assert finish(watch, state) == []


def test_the_working_directory_is_told(watch, state, task, user, tmp_path):
    (tmp_path / "sub").mkdir()
    user("directory", tmp_path / "sub")
    ((_, _, message, _, _),) = finish(watch, state)
    assert message.startswith("left the working directory changed from ")


def test_the_umask_is_told_as_it_is_written(watch, state, task, user):
    before = os.umask(0o022)
    try:
        user("mask")
        ((_, _, message, _, _),) = finish(watch, state)
    finally:
        os.umask(before)
    assert "the umask changed from 0o022 to 0o027" in message


def test_a_standard_descriptor_is_told_and_no_other_one(watch, state, task, user):
    kept = os.dup(2)
    try:
        user("another_descriptor", kept)
        user("descriptor")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    ((_, _, message, _, _),) = finish(watch, state)
    assert message.startswith("left descriptor 2 changed from inode ")


def test_the_limit_of_digits_is_told(watch, state, task, user):
    before = sys.get_int_max_str_digits()
    try:
        user("digits")
        ((_, _, message, _, _),) = finish(watch, state)
    finally:
        sys.set_int_max_str_digits(before)
    assert f"the limit of digits of an integer's text changed from {before} to 5000" in message


def test_a_handler_of_codecs_errors_is_told_by_its_name(watch, state, task, user):
    user("handler", "celerypool-test")
    ((_, _, message, _, _),) = finish(watch, state)
    assert "the handler of codecs' errors 'celerypool-test' changed from None to <" in message


def test_a_dialect_of_csv_is_told_by_its_name(watch, state, user):
    state.begin()
    watch.now = watch.begin(watch.run("task"), state)
    try:
        user("dialect", "celerypool-test")
        ((_, _, message, _, _),) = finish(watch, state)
    finally:
        csv.unregister_dialect("celerypool-test")
    assert "csv's dialect 'celerypool-test' changed from None to (';', " in message


def test_a_format_of_kombus_that_is_disabled_is_told(watch, state, user):
    from kombu.serialization import SerializerRegistry

    state.begin()
    registry = SerializerRegistry()
    registry.register("json", None, None, "application/json")
    watch.now = watch.begin(watch.run("task"), state)
    user("format", registry)
    ((_, _, message, _, _),) = finish(watch, state)
    assert "kombu's registry (application/json) changed from enabled to disabled" in message


def test_what_a_task_sets_to_the_value_of_all_at_its_end_was_its_own_until_then(watch, state):
    """Who has set it meanwhile has hurt it, although neither puts back what was there before."""
    one, other = (watch.begin(watch.run(name), state) for name in ("one", "other"))
    sets(state.ledger, one, "/a", "/b")
    sets(state.ledger, other, "/b", "/c")
    sets(state.ledger, one, "/c", "/all")
    assert [(kind, who, others) for kind, who, _, _, others in watch.found] == [("state-changed", "other", ["one"])]


def test_what_a_task_sets_to_the_value_of_all_before_others_begin_hurts_nobody(watch, state):
    one, other = (watch.begin(watch.run(name), state) for name in ("one", "other"))
    sets(state.ledger, one, "/a", "/b")
    sets(state.ledger, one, "/b", "/all")
    sets(state.ledger, other, "/all", "/c")
    sets(state.ledger, other, "/c", "/all")
    assert watch.found == []


def test_celerys_current_application_that_a_task_sets_is_told(watch, slot, monkeypatch):
    monkeypatch.setattr(state_sources, "tree_of", lambda _: ast.parse("def task():\n    app.set_current()\n"))
    from celery._state import _tls

    monkeypatch.setattr(_tls, "current_app", None)
    run = watch.begin(watch.run("sets"), slot)
    _tls.current_app = types.SimpleNamespace(main="tenant")
    watch.end(run, slot)
    assert watch.kinds == ["state-left"]
    assert "Celery's current application changed from unset to 'tenant'" in watch.found[0][2]


def test_tasks_are_passed_over_until_one_of_them_changes_something(watch, state):
    watch.end(watch.begin(watch.run("calm"), state), state)
    assert state.passed == {("calm", "started"), ("calm", "ended")}
    sets(state.ledger, watch.begin(watch.run("other"), state), "/a", "/b")
    assert state.passed == set()
    watch.end(watch.begin(watch.run("calm"), state), state)
    assert state.passed == set()


def test_tasks_are_passed_over_until_the_file_of_one_may_replace_something(watch, tasks_of, monkeypatch):
    watch.launch = "subprocess"
    detector = State(watch)
    detector.install()
    try:
        runs = tasks_of("import sys\n\ndef replaces():\n    sys.argv = []\n", "replaces")
        calm = watch.run("calm")
        calm.task.run = len  # this file mentions sys.argv
        watch.end(watch.begin(calm, detector), detector)
        assert detector.passed == {("calm", "started"), ("calm", "ended")}
        monkeypatch.setattr(sys, "argv", sys.argv)
        watch.begin(runs["replaces"], detector)
        assert detector.passed == set()
        sys.argv = []
        watch.end(runs["replaces"], detector)
    finally:
        detector.remove()
    assert watch.kinds == ["state-left"]


def test_filters_that_are_put_back_are_nothing(watch, state, task, user):
    user("silence")
    assert finish(watch, state) == []


def test_everything_is_put_back_at_the_end(watch):
    before = os.chdir, os.umask, warnings.simplefilter, os._Environ.__setitem__, contextlib.redirect_stdout.__enter__
    path = sys.path
    detector = State(watch)
    detector.install()
    detector.begin()
    assert os.chdir is not before[0]
    assert isinstance(sys.path, WatchedPath)
    sys.path.insert(0, "somewhere")
    detector.remove()
    after = os.chdir, os.umask, warnings.simplefilter, os._Environ.__setitem__, contextlib.redirect_stdout.__enter__
    assert after == before
    assert sys.path is path
    assert path.pop(0) == "somewhere"


# -- slots


VARIABLE = contextvars.ContextVar("VARIABLE", default="nobody")
KEPT = threading.local()


@pytest.fixture
def slot(watch, tmp_path):
    watch.pool = types.SimpleNamespace(name="threads", green=False, forks=False)
    watch.frames = Frames(os.path.dirname(__file__))
    detector = SlotState(watch)
    detector.begin()
    return detector


def in_a_context(function):
    return contextvars.copy_context().run(function)


def test_a_context_variable_that_is_left_is_told_and_who_gets_it(watch, slot):
    def tasks():
        run = watch.begin(watch.run("sets"), slot)
        VARIABLE.set("ann")
        watch.end(run, slot)
        watch.end(watch.begin(watch.run("gets"), slot), slot)

    in_a_context(tasks)
    assert [(kind, others) for kind, _, _, _, others in watch.found] == [("state-left", []), ("state-left", ["gets"])]
    assert "the context variable VARIABLE changed from unset to 'ann'" in watch.found[0][2]


@pytest.mark.parametrize(("last", "told"), [(None, ["plain"]), ("public", []), ("acme", [])])
def test_what_a_receiver_sets_for_some_tasks_alone_is_told_once_another_gets_it(watch, slot, monkeypatch, last, told):
    """Not while each sets it for itself, be it to what was there anyway."""
    monkeypatch.setattr(SlotState, "_users_receivers", lambda _: True)
    monkeypatch.setattr("pytest_celerypool.agent.detectors.state.slot.receivers_of", lambda *_: [])

    def tasks():
        for name, tenant in (("one", "acme"), ("two", "acme"), ("plain", last)):
            run = watch.begin(watch.run(name), slot)
            if tenant is not None:
                VARIABLE.set("".join(list(tenant)))  # as it comes out of a message: equal, and not the same
            watch.end(run, slot)

    in_a_context(tasks)
    assert [others for _, _, _, _, (*others,) in watch.found] == [[each] for each in told]


def give_a_tenant(*, always=False):
    """As a receiver of the project's: one that knows no task without a tenant has a value for those."""
    return "nobody's" if always else None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["acme", "acme", None], ["plain"]),
        ([None, "acme", None], ["plain"]),
        (["acme", "public", "acme"], []),
        ([give_a_tenant(always=True)] * 3, []),  # the receiver's own
    ],
)
def test_what_a_receiver_has_set_before_a_task_is_told_once_a_task_gets_it_that_it_sets_nothing_for(
    watch, slot, monkeypatch, given, told
):
    monkeypatch.setattr("pytest_celerypool.agent.detectors.state.slot.receivers_of", lambda *_: [give_a_tenant])

    def tasks():
        slot.begin()
        for name, tenant in zip(("one", "two", "plain"), given, strict=True):
            if tenant is not None:
                VARIABLE.set(tenant if tenant in give_a_tenant.__code__.co_consts else "".join(list(tenant)))
            watch.end(watch.begin(watch.run(name), slot), slot)

    in_a_context(tasks)
    assert [others for _, _, _, _, (*others,) in watch.found] == [[each] for each in told]


def bind_a_tenant():
    structlog.contextvars.bind_contextvars(tenant="acme")


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("def task():\n    bind_contextvars(tenant='acme')\n", ["state-left"]),
        ("def task():\n    clear_contextvars()\n    bind_contextvars(tenant='acme')\n", []),
        ("def task():\n    'a library binds it'\n", []),
    ],
)
def test_what_a_task_binds_for_its_log_is_told_of_if_nothing_clears_it(watch, slot, monkeypatch, source, kinds):
    tree = ast.parse(source)
    monkeypatch.setattr(state_sources, "tree_of", lambda _: tree)

    def task():
        run = watch.begin(watch.run("binds"), slot)
        bind_a_tenant()
        watch.end(run, slot)

    in_a_context(task)
    assert watch.kinds == kinds


@pytest.mark.parametrize("value", [None, "nobody"])
def test_none_and_the_default_are_as_good_as_a_reset(watch, slot, value):
    def task():
        run = watch.begin(watch.run("sets"), slot)
        VARIABLE.set("ann")
        VARIABLE.set(value)
        watch.end(run, slot)

    in_a_context(task)
    assert watch.found == []


def test_a_thread_local_tells_data_and_keeps_quiet_about_clients(watch, slot):
    run = watch.begin(watch.run("sets"), slot)
    KEPT.client = object()
    KEPT.user = "ann"
    watch.end(run, slot)
    KEPT.__dict__.clear()
    ((_, _, message, _, _),) = watch.found
    assert "the thread local KEPT.user changed from unset to 'ann'" in message


def test_a_decimal_context_that_is_left_is_told(watch, slot):
    import decimal

    def task():
        run = watch.begin(watch.run("sets"), slot)
        decimal.getcontext().prec = 3
        watch.end(run, slot)

    contextvars.Context().run(task)
    ((_, _, message, _, _),) = watch.found
    assert "the decimal context (prec) changed from 28 to 3" in message


# -- lines, and exceptions


@pytest.fixture
def replacing(watch, ledger, tmp_path, monkeypatch):
    """Run a task from beginning to end while another one has replaced a method of ``json``, and runs on."""

    def run(source, value):
        (tmp_path / "users_replacing.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "users_replacing", raising=False)
        users = importlib.import_module("users_replacing")
        detector = Assigned(watch, ledger)
        outer, inner = watch.run("outer"), watch.run("inner")
        for each in (outer, inner):
            each.task.run = users.task
        watch.begin(outer, detector)
        monkeypatch.setattr(json.JSONEncoder, "default", getattr(users, value))
        watch.begin(inner, detector)
        watch.end(inner, detector)
        return [(kind, others) for kind, _, _, _, others in watch.found]

    return run


REPLACES = "import json\n\ndef mine(*_):\n    ...\n\nother = print\n\ndef task(value):\n"


def test_a_task_that_replaces_within_what_another_has_replaced_hurts_it(replacing):
    assert replacing(REPLACES + "    json.JSONEncoder.default = value\n", "mine") == [("state-changed", ["outer"])]


def test_a_task_that_may_not_have_replaced_anything_is_not_accused(replacing):
    assert replacing(REPLACES + "    if value:\n        json.JSONEncoder.default = value\n", "mine") == []


def test_what_every_task_replaces_by_the_same_hurts_nobody(replacing):
    assert replacing(REPLACES + "    json.JSONEncoder.default = mine\n", "mine") == []


TAKES = """
import json

usual = json.dumps

def mine(*_):
    ...

def wait(inside):
    inside()

def task(inside):
    json.dumps = mine
    try:
        wait(inside)
    finally:
        json.dumps = usual
"""


@pytest.mark.parametrize(
    ("source", "inside", "kinds"),
    [
        (TAKES, True, ["state-changed"]),
        (TAKES, False, []),
        (TAKES.replace("    json.dumps = mine", "    if inside: json.dumps = mine"), True, []),  # perhaps it has not
    ],
    ids=["inside", "outside", "perhaps"],
)
def test_what_a_task_puts_back_while_another_one_relies_on_the_same_hurts_that(
    watch, ledger, tasks_of, monkeypatch, source, inside, kinds
):
    """All tasks replace it by the same, so nobody sees another's; but the first to end takes it away from all."""
    monkeypatch.setattr(json, "dumps", json.dumps)
    one, other = tasks_of(source, "task")["task"], watch.run("other")
    other.task.run = one.task.run
    detector = Assigned(watch, ledger)
    for each in (one, other):
        watch.begin(each, detector)
    frames = [(other, sys._getframe())] if not inside else []

    def in_the_midst():
        frames.append((other, sys._getframe()))
        monkeypatch.setattr(json, "dumps", detector._places.usual[0])  # the first task has put it back
        detector.returned(one)

    monkeypatch.setattr(assigned, "frames_of", lambda *_: iter(frames))
    if inside:
        one.task.run(in_the_midst)
    else:
        detector.returned(one)
    assert watch.kinds == kinds


def test_ends_of_tasks_are_heard_of_once_one_is_known_to_replace_something(tmp_path, tasks_of):
    """Also where something is compared already, since the file of an earlier task mentions it."""
    watch = FakeWatch(tmp_path, "threads", launch="subprocess")
    detector = State(watch)
    source = (
        "import json, sys\nsys.argv = sys.argv\n\ndef mentions():\n    ...\n\ndef replaces():\n    json.dumps = None\n"
    )
    runs = tasks_of(source, "mentions", "replaces")
    heard = []
    for name in ("mentions", "replaces"):
        watch.end(watch.begin(runs[name], detector), detector)
        heard.append("returned" not in detector.resting)
    assert heard == [False, True]


def test_state_of_a_slot_is_left_in_it_whatever_other_threads_set(tmp_path):
    watch = FakeWatch(tmp_path, "threads")
    ledger = Ledger(watch)
    language = Subject("language", "the language", "override it", "slot")
    one, other = (watch.begin(watch.run(name), ledger) for name in ("one", "other"))
    sets(ledger, one, "en", "de", language)
    sets(ledger, other, "en", "fr", language)
    watch.end(one, ledger)
    watch.end(other, ledger)
    assert [(kind, who) for kind, who, *_ in watch.found] == [("state-left", "one"), ("state-left", "other")]


def test_the_line_in_the_tasks_own_function_is_preferred(tmp_path):
    path = tmp_path / "tasks.py"
    path.write_text("def other():\n    VAR.set(1)\n\ndef mine():\n    VAR.set(2)\n")
    module = {}
    exec(compile(path.read_text(), str(path), "exec"), module)
    task = types.SimpleNamespace(run=module["mine"], name="mine")
    line = state_sources.find(task, [], state_sources.calls_method("VAR", "set"))
    assert (line.number, line.function) == (5, "mine")
    assert state_sources.find(task, [], state_sources.calls_method("NO", "set")) is None


@pytest.mark.parametrize(
    ("source", "sets_it"),
    [
        ("getcontext().prec = 3", True),
        ("ctx.traps[Inexact] = True", True),
        ("decimal.setcontext(other)", True),
        ("prec = 3", False),
        ("localcontext()", False),
    ],
)
def test_what_changes_the_decimal_context_is_recognised(source, sets_it):
    assert any(map(state_sources.sets_decimal_context, ast.walk(ast.parse(source)))) is sets_it


REPLACING = [
    "sys.argv = ['report']",
    "old, sys.argv = sys.argv, []",
    "mock.patch('sys.argv', ['report'])",
    "mock.patch.object(sys, 'argv', [])",
]


@pytest.mark.parametrize("source", REPLACING)
def test_what_replaces_an_attribute_of_a_module_is_recognised(source):
    nodes = list(ast.walk(ast.parse(source)))
    assert any(map(state_sources.replaces("sys", "argv"), nodes))
    assert not any(map(state_sources.replaces("sys", "stdin"), nodes))
    assert not any(map(state_sources.replaces("other", "argv"), nodes))


@pytest.mark.parametrize(
    ("source", "may"),
    [
        *((source, True) for source in REPLACING),
        ("sys.argv += ['more']", True),
        ("sys . argv = []", True),
        ("setattr(\n    sys,\n    'argv',\n    [])", True),
        ("setattr(sys, r'argv', [])", True),
        ("sys.argv: list = []", True),
        ("sys.argv[1:]", False),
        ("sys.argv.copy()", False),
        ("argv = []", False),
        ("sys.argv0 = 1", False),
    ],
)
def test_a_text_that_cannot_replace_an_attribute_is_told_from_one_that_may(source, may):
    assert state_sources.may_replace(source, "sys", "argv") is may


def test_what_programs_assign_to_is_found_and_named():
    known = {subject.label: (owner, name) for owner, name, subject in state_of_modules.assigned()}
    assert {"sys.stdout", "sys.argv", "tempfile.tempdir"} <= set(known)
    assert all(hasattr(owner, name) for owner, name in known.values())


def test_what_a_task_replaces_in_others_is_found(tmp_path, monkeypatch):
    (tmp_path / "users_patches.py").write_text(
        "import json, textwrap\nfrom http.client import HTTPConnection\n\n"
        "class Own:\n    limit = 1\n\n"
        "textwrap.wrap = textwrap.wrap  # at import\n\n"
        "def patch(value):\n"
        "    json.JSONEncoder.default = value\n"
        "    json.detect_encoding = value\n\n"
        "def work(value):\n"
        "    patch(value)\n"
        "    if value:\n"
        "        HTTPConnection.putheader = value\n"
        "    Own.limit = 2\n"
        "    value.name = 1\n"
        "    json.nothing_of_the_kind = 1\n\n"
        "def not_called():\n"
        "    textwrap.dedent = None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    users = importlib.import_module("users_patches")
    frames = Frames(str(tmp_path))
    flow = flow_of_task(Reader(frames), types.SimpleNamespace(run=users.work))
    found = {
        each.subject.label: (each.line.function, each.certain) for each in state_of_modules.assigned_by(flow, frames)
    }
    assert found == {
        "JSONEncoder.default": ("patch", True),
        "json.detect_encoding": ("patch", True),
        "HTTPConnection.putheader": ("work", False),
    }


@pytest.fixture
def tasks_of(watch, tmp_path):
    """Return the tasks of a file with this text, as runs by name that have not begun."""

    def make(text, *names):
        path = tmp_path / "tasks.py"
        path.write_text(text)
        module = {}
        exec(compile(text, str(path), "exec"), module)
        runs = {name: watch.run(name) for name in names}
        for name, run in runs.items():
            run.task.run = module[name]
        return runs

    return make


def test_what_a_task_puts_there_is_never_asked_whether_it_is_equal(watch, ledger, tasks_of, monkeypatch):
    """As with arrays, whose answer is no truth value."""

    class Odd:
        def __eq__(self, other):
            raise ValueError("ambiguous")

        __hash__ = None

    runs = tasks_of(
        "import sys\n\ndef before():\n    ...\n\ndef assigns():\n    sys.argv = []\n\ndef after():\n    ...\n",
        *("before", "assigns", "after"),
    )
    detector = Assigned(watch, ledger)
    watch.begin(runs["before"], detector)
    watch.begin(runs["assigns"], detector)
    monkeypatch.setattr(sys, "argv", Odd())
    watch.end(runs["assigns"], detector)
    watch.begin(runs["after"], detector)
    assert detector._replaced() is not None


def test_what_no_file_of_a_task_replaces_is_not_compared(watch, ledger, tasks_of):
    runs = tasks_of("import sys, time\n\ndef reads():\n    sys.stdout.write(str(time.time()))\n", "reads")
    detector = Assigned(watch, ledger)
    watch.begin(runs["reads"], detector)
    assert detector._places.known == ()


def test_two_threads_that_begin_at_once_lose_nothing_of_what_is_compared(watch, ledger, tasks_of, monkeypatch):
    runs = tasks_of("import sys\n\ndef calm():\n    ...\n\ndef replaces():\n    sys.argv = []\n", "calm", "replaces")
    runs["calm"].task.run = len  # of no file
    detector = Assigned(watch, ledger)
    reading = threading.Event()

    def flow_of_task(_reader, task):
        if task.name == "calm":
            reading.set()
            time.sleep(0.2)

    monkeypatch.setattr(assigned, "flow_of_task", flow_of_task)
    thread = threading.Thread(target=detector.started, args=(runs["calm"],))
    thread.start()
    assert reading.wait(30)
    detector.started(runs["replaces"])
    thread.join(30)
    assert [name for _, name, _ in detector._places.known] == ["argv"]


def test_only_the_task_that_has_the_line_is_named_as_the_one_that_replaces(watch, ledger, tasks_of, monkeypatch):
    runs = tasks_of(
        "import socket\ndef proxied():\n    socket.socket = None\ndef reads():\n    ...\ndef begins():\n    ...\n",
        *("reads", "proxied", "begins"),
    )
    detector = Assigned(watch, ledger)
    watch.begin(runs["reads"], detector)
    watch.begin(runs["proxied"], detector)
    monkeypatch.setattr(socket, "socket", None)
    watch.begin(runs["begins"], detector)
    ((kind, who, _, _, others),) = watch.found
    assert (kind, who, others) == ("state-changed", "proxied", ["begins"])


IN_MAIN = "signal only works in main thread of the main interpreter"


@pytest.mark.parametrize(
    ("pool", "cls", "message", "kinds"),
    [
        ("threads", ValueError, IN_MAIN, ["main-thread-only"]),
        ("threads", RuntimeError, "set_wakeup_fd only works in main thread", ["main-thread-only"]),  # of asyncio
        ("threads", KeyError, IN_MAIN, []),
        ("prefork", ValueError, IN_MAIN, []),
        ("threads", ValueError, "something else", []),
    ],
)
def test_an_exception_is_explained_where_the_pool_is_the_reason(tmp_path, pool, cls, message, kinds):
    watch = FakeWatch(os.path.dirname(__file__), pool)
    detector = Threads(watch)
    run = watch.begin(watch.run("fails"))
    with pytest.raises(cls, match=message) as raised:
        raise cls(message)
    watch.end(run, detector, exc=raised.value)
    assert watch.kinds == kinds


def test_a_mock_of_another_mapping_is_of_no_interest(watch, state, task):
    with mock.patch.dict({}, {"a": 1}):
        pass
    assert finish(watch, state) == []


def test_a_method_of_a_base_class_is_replaced_and_put_back(watch):
    class Base:
        def enable(self):
            return "enabled"

    class Profile(Base):
        pass

    detector = Detector(watch)
    detector.patch(Profile, "enable", lambda self: "watched")
    assert Profile().enable() == "watched"
    with pytest.raises(AttributeError):
        detector.patch(Profile, "enabel", None)
    detector.remove()
    assert Profile().enable() == "enabled"
    assert "enable" not in vars(Profile)


def test_a_profiler_is_on_from_enable_to_disable():
    import cProfile

    enable, disable = (each for each in state_of_modules._of_one_for_all() if each.owner is cProfile.Profile)

    def change(mutator):
        ((_, read),) = mutator.items(None)
        return read(), read()

    before, one = change(enable)
    assert before is None
    assert one is not None
    assert change(disable) == (one, None)
    assert change(disable) == (None, None)


@pytest.mark.parametrize("tasks", [1, 2, None])
def test_a_child_of_prefork_that_is_replaced_after_each_task_leaves_nothing_to_the_next(monkeypatch, tasks):
    """Billiard keeps in a child how many tasks it may run."""
    worker = types.SimpleNamespace(maxtasks=tasks)
    monkeypatch.setattr(billiard.process, "current_process", lambda: types.SimpleNamespace(_target=worker))
    reported = []
    watch = types.SimpleNamespace(
        pool=types.SimpleNamespace(forks=True), report=lambda kind, *_, **__: reported.append(kind)
    )
    run = Run("id", types.SimpleNamespace(name="t.work"), "about")
    report_left(watch, run, Subject("cwd", "the working directory", "Put it back."), "/a", "/b", [], None)
    assert reported == ([] if tasks == 1 else ["state-left"])


@pytest.mark.parametrize(("grade", "name", "told"), [("read", "uses", 1), ("read", "other", 0), ("own", "uses", 0)])
def test_what_is_assigned_in_a_task_hurts_those_that_use_that_task(tmp_path, grade, name, told):
    (tmp_path / "users_mail.py").write_text("def mail(): return 1\ndef uses(): return mail()\ndef other(): return 1\n")
    module = {}
    exec(compile((tmp_path / "users_mail.py").read_text(), str(tmp_path / "users_mail.py"), "exec"), module)
    reports = []
    detector = object.__new__(Assigned)
    detector._watch = types.SimpleNamespace(frames=Frames(str(tmp_path)))
    detector._ledger = types.SimpleNamespace(report_changed=lambda *about: reports.append(about))
    owner = types.SimpleNamespace(run=module["mail"])
    detector._known = lambda _: (owner, "ignore_result", types.SimpleNamespace(grade=grade))
    detector._replaces = lambda run, _: run.id == "campaign"
    detector._beside = lambda _: [types.SimpleNamespace(id="campaign")]
    detector._change = lambda *_: "change"
    run = types.SimpleNamespace(id="begins", task=types.SimpleNamespace(run=module[name]), marks={})
    detector._began(run, 0, None, True)
    assert len(reports) == told
