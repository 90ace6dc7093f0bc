"""What detectors are told of the tasks in their process, and when."""

import builtins
import sys
import time
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.backends.base import Backend

from pytest_celerypool.agent import storing
from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.meters import Run
from pytest_celerypool.agent.watch import Watch
from pytest_celerypool.pools import pool


class Told(Detector):
    """Keeps what it is told."""

    kinds = (Kind("told", "warn", "is told"),)
    heard = []

    def started(self, run):
        self.heard.append(("started", run.id, run.number))

    def returned(self, run, result):
        self.heard.append(("returned", run.id, result))

    def opened(self, run, file, path, mode):
        self.heard.append(("opened", run.id, mode))

    def ended(self, run, state, exc):
        self.heard.append(("ended", run.id, state))

    def failed(self, run, state, exc):
        self.heard.append(("failed", run.id, str(exc)))


class Marked(Told):
    """Waits for tasks with its mark."""

    mark = "marked"
    started = Detector.started
    returned = Detector.returned
    opened = Detector.opened
    failed = Detector.failed

    def ended(self, run, state, exc):
        self.heard.append(("marked", run.id, run.marks["marked"]))


class Resting(Told):
    """Wants to hear of ends only while it listens."""

    def __init__(self, watch):
        super().__init__(watch)
        self.rest("ended")


class Passing(Told):
    """Is done with a task of a name once it has begun."""

    def started(self, run):
        super().started(run)
        self.pass_over(run.task.name, "started", "ended")


class Particular(Told):
    """Wants to hear of results that are lists, and of modules."""

    results = frozenset({list})

    def imported(self):
        self.heard.append(("imported",))


class Failing(Detector):
    """Raises where it is told of anything."""

    kinds = (Kind("failing", "warn", "fails"),)

    def started(self, run):
        raise ZeroDivisionError


class Replacing(Detector):
    """Replaces a function."""

    kinds = (Kind("replacing", "warn", "replaces"),)
    owner = SimpleNamespace(function=len)

    def begin(self):
        self.after(self.owner, "function", lambda *_: None)


class AlsoReplacing(Replacing):
    """Replaces the same."""


class Recorder:
    """Has the task that runs, and keeps the failures of detectors."""

    def __init__(self):
        self.watch, self.running, self.failures = None, {}, []
        self.key = lambda: "slot"

    def current(self):
        return self.running.get("slot")

    def failed(self, where, exc):
        self.failures.append(where)


CLASSES = (Told, Marked, Resting, Passing, Particular, Failing, Replacing, AlsoReplacing)


def make(recorder, *names):
    paths = [f"{__name__}:{name}" for name in names]
    config = {"detectors": paths, "off": [], "limits": {}, "root": "/", "pool": pool("solo").facts()}
    return Watch(recorder, config, "subprocess", "/nowhere")


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def watch(recorder, monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(**{cls.__name__: cls for cls in CLASSES}))
    monkeypatch.setattr(Told, "heard", [])
    made = make(recorder, "Told", "Marked")
    made.install()
    made.begin(Celery("t", set_as_current=False))
    yield made
    made.remove()


def begin(watch, task_id="1", name="t.t"):
    run = watch.recorder.running["slot"] = Run(task_id, SimpleNamespace(name=name), "")
    watch.started(run)
    return run


def kinds():
    return [each[0] for each in Told.heard]


def test_of_a_task_that_succeeds_and_has_no_mark_only_its_start_and_end_are_told(watch):
    run = begin(watch)
    watch.ended(run, "SUCCESS", None)
    assert Told.heard == [("started", "1", 1), ("ended", "1", "SUCCESS")]


def test_a_detector_that_waits_for_its_mark_is_told_of_tasks_that_have_it(watch):
    run = begin(watch)
    run.marks["marked"] = 7
    watch.ended(run, "SUCCESS", None)
    assert Told.heard[-1] == ("marked", "1", 7)


def test_a_detector_that_rests_is_told_again_when_it_listens(recorder, watch):
    watch.remove()
    other = make(recorder, "Resting")
    other.install()
    (resting,) = other._detectors
    other.ended(begin(other, "1"), "SUCCESS", None)
    resting.listen("ended")
    other.ended(begin(other, "2"), "SUCCESS", None)
    resting.rest("ended")
    other.ended(begin(other, "3"), "SUCCESS", None)
    assert [each for each in Told.heard if each[0] == "ended"] == [("ended", "2", "SUCCESS")]
    other.remove()


def test_a_detector_that_passes_over_tasks_of_a_name_is_told_of_all_others(recorder, watch):
    watch.remove()
    other = make(recorder, "Passing", "Resting")
    other.install()
    for number, name in enumerate(("t.a", "t.a", "t.b")):
        other.ended(begin(other, str(number), name), "SUCCESS", None)
    passing, resting = other._detectors
    resting.listen("ended")
    passing.listen("opened")
    other.ended(begin(other, "3", "t.a"), "SUCCESS", None)
    # Resting is told of every start, and of ends since it listens; Passing of the first start of each name.
    assert [each[:2] for each in Told.heard] == [
        *(("started", "0"), ("started", "0"), ("started", "1"), ("started", "2"), ("started", "2")),
        *(("started", "3"), ("ended", "3")),
    ]
    other.remove()


def test_a_detector_that_listens_while_another_thread_finds_out_who_does_is_not_lost(recorder, watch):
    class Interrupting(set):
        def __contains__(self, item):
            resting.listen("ended")
            return False

    watch.remove()
    other = make(recorder, "Told", "Resting")
    other.install()
    told, resting = other._detectors
    told.passed = Interrupting()
    run = begin(other)
    told.passed = set()
    other.ended(run, "SUCCESS", None)
    assert kinds().count("ended") == 2
    other.remove()


def test_a_detector_is_told_of_the_results_it_wants_to_hear_of(recorder, watch):
    watch.remove()
    other = make(recorder, "Particular", "Told")
    other.install()
    run = begin(other)
    Told.heard.clear()
    for result in (1, [], 2, []):
        other.returned(run, result)
    assert [each[2] for each in Told.heard] == [1, [], [], 2, [], []]
    other.remove()


def test_a_result_of_a_class_that_has_no_hash_is_told_of_like_any_other(recorder, watch):
    class Odd(type):
        def __eq__(cls, other):
            return NotImplemented

    watch.remove()
    other = make(recorder, "Particular", "Told")
    other.install()
    run = begin(other)
    Told.heard.clear()
    result = Odd("Result", (), {})()
    other.returned(run, result)
    assert Told.heard == [("returned", "1", result)]
    other.remove()


def test_what_has_been_imported_is_told_before_the_start_and_the_end_of_a_task(recorder, watch, monkeypatch):
    watch.remove()
    other = make(recorder, "Particular")
    other.install()
    begin(other)
    monkeypatch.setitem(sys.modules, "imported_between", None)
    run = begin(other, "2")
    monkeypatch.setitem(sys.modules, "imported_by_a_task", None)
    other.ended(run, "SUCCESS", None)
    other.ended(begin(other, "3"), "SUCCESS", None)
    heard = [each[0] for each in Told.heard]
    assert heard == ["imported", "started", "imported", "started", "imported", "ended", "started", "ended"]
    other.remove()


def test_a_failure_is_told_after_the_end(watch):
    watch.ended(begin(watch), "FAILURE", KeyError("x"))
    assert Told.heard[1:] == [("ended", "1", "FAILURE"), ("failed", "1", "'x'")]


def test_a_file_is_told_of_where_a_task_has_opened_it(watch):
    open(__file__).close()
    assert kinds() == []
    begin(watch)
    open(__file__, "rb").close()
    assert Told.heard[-1] == ("opened", "1", "rb")


def test_what_storing_a_result_does_is_not_the_tasks(watch, request):
    during = []

    class Store(Backend):
        def store_result(self, *args, **kwargs):
            during.append(watch.current())
            open(__file__).close()

        def on_chord_part_return(self, *args, **kwargs):
            pass

    unwatch = storing.watch(watch.recorder)
    request.addfinalizer(unwatch)
    run = begin(watch)
    assert watch.current() is run
    Store(app=watch.app).mark_as_done("1", 42, SimpleNamespace(chord=None, ignore_result=False))
    assert during == [None]
    assert Told.heard[1:] == [("returned", "1", 42)]
    assert watch.current() is run


@pytest.mark.parametrize(
    ("name", "args", "counted"),
    [
        ("mark_as_done", ("1", 42), True),
        ("mark_as_failure", ("1", KeyError()), True),
        ("mark_as_retry", ("1", KeyError()), True),
        ("store_result", ("1", {}, "STARTED"), True),
        ("store_result", ("1", {}, "PROGRESS"), False),
        ("mark_as_failure", ("2", KeyError()), False),
    ],
)
def test_what_storing_takes_is_known_whatever_is_stored(watch, request, name, args, counted):
    """What the task itself stores, with update_state(), is its own doing; so is what becomes of other tasks."""

    class Store(Backend):
        def _store_result(self, *args, **kwargs):
            time.sleep(0.02)

    request.addfinalizer(storing.watch(watch.recorder))
    run = begin(watch)
    getattr(Store(app=watch.app), name)(*args)
    assert (run.stored >= 0.02) is counted


def test_a_task_that_failed_is_not_over_while_that_is_stored(watch, request):
    """Its handlers are its own code, and still to come."""
    during = []

    class Store(Backend):
        def _store_result(self, *args, **kwargs):
            during.append(watch.current())

    request.addfinalizer(storing.watch(watch.recorder))
    run = begin(watch)
    Store(app=watch.app).mark_as_failure("1", KeyError())
    assert during == [run]


def test_the_backend_that_celery_makes_in_a_task_is_not_the_tasks(watch, request):
    during = []

    class Store(Backend):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            during.append(watch.current())
            time.sleep(0.02)

    request.addfinalizer(storing.watch(watch.recorder))
    app = Celery(set_as_current=False)
    app.backend_cls = Store
    run = begin(watch)
    assert isinstance(app.backend, Store)
    assert during == [None]
    assert run.stored >= 0.02
    assert watch.current() is run


def test_the_backends_are_put_back(watch):
    before = dict(vars(Backend)), dict(vars(Celery))
    storing.watch(watch.recorder)()
    assert (dict(vars(Backend)), dict(vars(Celery))) == before


def test_tasks_that_overlap_know_it(watch):
    one = begin(watch)
    assert not watch.overlapped(one)
    watch.recorder.running["other"] = one
    two = begin(watch, "2")
    assert watch.overlapped(one)
    assert watch.overlapped(two)


def test_a_detector_that_raises_is_switched_off_and_the_others_go_on(watch, recorder):
    other = make(recorder, "Failing", "Told")
    other.install()
    other.begin(watch.app)
    begin(other)
    begin(other, "2")
    other.remove()
    assert kinds() == ["started", "started"]
    assert recorder.failures == ["detector Failing, switched off"]


def test_a_detector_that_cannot_be_imported_is_told_and_no_more(recorder):
    other = make(recorder, "Nobody")
    assert recorder.failures == [f"detector {__name__}:Nobody"]
    other.install()
    other.remove()


def test_everything_is_put_back(recorder, watch):
    watch.remove()
    assert builtins.open is open
    assert not hasattr(builtins.open, "_told")
    assert Backend.mark_as_done.__qualname__ == "Backend.mark_as_done"
    assert recorder.watch is None


def test_two_that_replace_the_same_function_put_it_back(watch, recorder):
    other = make(recorder, "Replacing", "AlsoReplacing")
    other.install()
    other.begin(watch.app)
    assert Replacing.owner.function is not len
    assert Replacing.owner.function("abc") == 3
    other.remove()
    assert Replacing.owner.function is len
