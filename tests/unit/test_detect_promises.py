"""What is read from source, and the clock that looks at tasks: the parts of the detectors of promises."""

import contextlib
import functools
import os
import resource
import signal
import sys
import threading
import time
import types
from types import SimpleNamespace

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery import current_task

from pytest_celerypool.agent import alarm, handlers, reach
from pytest_celerypool.agent.detectors.hub.alarms import _needs_its_task
from pytest_celerypool.agent.detectors.promises import settings as promised
from pytest_celerypool.agent.detectors.promises.configured import set_at
from pytest_celerypool.agent.detectors.promises.coroutines import Coroutines
from pytest_celerypool.agent.detectors.promises.init_signals import IGNORED, UNSENT, InitSignals
from pytest_celerypool.agent.detectors.promises.settings import Revocations, soft_signal
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

here = __file__


def is_user(file):
    return file == here


# -- which except clause catches


class LimitError(Exception):
    """As SoftTimeLimitExceeded is."""


def caught(function):
    """What would catch a LimitError raised where `function` gives control away."""
    generator = function()
    next(generator)
    found = handlers.catcher(generator.gi_frame, LimitError)
    generator.close()
    return None if found is None else found.generic


def everything():
    try:
        yield
    except Exception:  # noqa: BLE001 - what is looked for
        pass


def bare():
    for _ in range(1):
        try:
            yield
        except:  # noqa: E722 - what is looked for
            pass


def suppressed():
    with contextlib.suppress(ValueError, Exception):
        yield


def by_name():
    try:
        try:
            yield
        except LimitError:
            pass
    except Exception:  # noqa: BLE001 - what is looked for
        pass


def both():
    try:
        yield
    except (ValueError, LimitError):
        pass


def another():
    try:
        yield
    except ValueError:
        pass


def in_the_handler():
    try:
        raise ValueError
    except Exception:  # noqa: BLE001 - as above
        yield


def left_by_finally():
    for _ in range(1):
        try:
            yield
        finally:
            continue  # noqa: B012 - what is looked for


def left_by_finally_at_times():
    for each in range(1):
        try:
            yield
        finally:
            if each:
                break  # noqa: B012 - as above


def finally_only():
    try:
        yield
    finally:
        pass


class Tolerant:
    """Swallows what it does not know."""

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if value is not None:
            self.failed = value
        return not isinstance(value, (KeyboardInterrupt, SystemExit))


class Particular:
    """Swallows exceptions of one class, for a reason of its own."""

    swallowed: type = ValueError

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None:
            return False
        if issubclass(kind, ValueError):
            return True
        return None


class Knowing(Particular):
    def __exit__(self, kind, value, traceback):
        return kind is not None and issubclass(kind, LimitError)


class Asking(Particular):
    def __exit__(self, kind, value, traceback):
        if self.swallowed:
            return True
        raise TypeError


class Closing(Particular):
    def __exit__(self, kind, value, traceback):
        self.swallowed = kind


@contextlib.contextmanager
def logged():
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - what is looked for
        print(exc)


@contextlib.contextmanager
def translated():
    try:
        yield
    except Exception as exc:
        raise TypeError from exc


tolerant = SimpleNamespace(manager=Tolerant())


def in_manager(make):
    def function():
        with make() as _:
            yield

    return function


def in_attribute():
    with tolerant.manager, contextlib.nullcontext():
        yield


@pytest.mark.parametrize(
    ("function", "generic"),
    [
        (in_manager(Tolerant), True),
        (in_manager(Particular), None),
        (in_manager(Knowing), False),
        (in_manager(Asking), None),
        (in_manager(Closing), None),
        (in_manager(logged), True),
        (in_manager(translated), None),
        (in_attribute, True),
        (everything, True),
        (bare, True),
        (suppressed, True),
        (by_name, False),
        (both, False),
        (another, None),
        (in_the_handler, None),
        (finally_only, None),
        (left_by_finally, True),
        (left_by_finally_at_times, None),
    ],
)
def test_the_clause_that_catches_is_found(function, generic):
    assert caught(function) == generic


# -- what a function does with names of its module

store = None
options: dict = {}
holder = SimpleNamespace(client=None)


def fill():
    global store
    store = make()
    options["a"] = 1
    options.update(b=2)
    holder.client = store
    local = {}
    local["x"] = 1
    time.sleep(0)


def make():
    return read_options()


def read_options():
    return options.get("a")


def test_what_a_function_sets_changes_reads_and_calls_is_read_from_its_source():
    found = reach.reach(fill, is_user)
    assert {name.name for name in found.sets} == {"store"}
    assert {name.name: what for name, what in found.changes.items()} == {
        "options": {"[]=", "update", "get"},
        "holder": {".client="},
    }
    assert {each.__name__ for each in found.functions} == {"fill", "make", "read_options"}
    assert "sleep" in found.calls
    assert "make" not in found.calls


def test_functions_that_are_not_the_projects_are_not_read():
    assert not reach.reach(time.sleep, is_user).functions
    assert not reach.reach(threading.Thread.start, is_user).functions


# -- the clock


def clock():
    watch = SimpleNamespace(running=list)
    return alarm.Alarm(watch, lambda callback: callback)


def test_alarms_come_in_order_and_when_they_are_due():
    seen, last = [], threading.Event()
    one = clock()
    now = time.monotonic()
    one.at(now + 0.1, lambda: (seen.append(("late", time.monotonic() - now >= 0.1)), last.set()))
    one.at(now + 0.01, lambda: seen.append(("early", True)))
    assert last.wait(5)
    assert seen == [("early", True), ("late", True)]
    one.end()


def test_alarms_that_were_ended_do_not_come():
    seen = []
    one = clock()
    one.at(time.monotonic() + 0.05, lambda: seen.append(1))
    one.end()
    time.sleep(0.1)
    assert not seen


@pytest.mark.parametrize("given", ["SIGUSR1", "USR1", "usr1", int(signal.SIGUSR1), signal.SIGUSR1])
def test_the_signal_of_a_soft_limit_is_known_by_name_and_by_number(given):
    assert soft_signal(given)


@pytest.mark.parametrize("given", [None, "SIGTERM", "KILL", signal.SIGTERM, 0, ""])
def test_no_other_signal_is(given):
    assert not soft_signal(given)


def cleans_up():
    try:
        yield
    except SoftTimeLimitExceeded:
        pass


def cleans_up_after_any():
    try:
        yield
    except Exception:  # noqa: BLE001 - what is looked for
        pass


def does_not():
    yield


@pytest.mark.parametrize(
    ("function", "signal_name", "green", "reports"),
    [
        (cleans_up, "SIGUSR1", True, 1),
        (cleans_up, "SIGTERM", True, 0),
        (does_not, "SIGUSR1", True, 0),  # though another function of its file does
        (cleans_up_after_any, "SIGUSR1", True, 0),
        (cleans_up, "SIGUSR1", False, 0),  # there nothing ends it, which is told of when it has run on
    ],
)
def test_who_awaits_a_soft_limit_of_a_signal_is_told_that_a_green_pool_raises_something_else(
    monkeypatch, tmp_path, function, signal_name, green, reports
):
    told = []
    run = Run("id", SimpleNamespace(name="task", run=function), "")
    watch = SimpleNamespace(
        folder=str(tmp_path),
        frames=Frames(os.path.dirname(__file__)),
        pool=SimpleNamespace(name="gevent" if green else "threads", green=green, forks=False),
        running=lambda: [run],
        guarded=lambda _detector, callback: callback,
        report=lambda kind, _run, _message, evidence, *_, **__: told.append((kind, evidence[0])),
    )
    generator = function()
    next(generator)
    monkeypatch.setattr(promised, "frame_of", lambda _watch, _run: generator.gi_frame)
    detector = Revocations(watch)
    detector._terminates(SimpleNamespace(id="id"), None, signal_name)
    detector.remove()
    generator.close()
    assert "terminated" in run.marks
    assert len(told) == reports
    assert all(line.endswith("except SoftTimeLimitExceeded:") for _, line in told)


# -- where a setting is given


@pytest.mark.parametrize(
    "source",
    [
        "app.conf.worker_max_tasks_per_child = 5",
        "app.conf.update(worker_max_tasks_per_child=5)",
        "app.conf.update({'worker_max_tasks_per_child': 5})",
        "CELERY_WORKER_MAX_TASKS_PER_CHILD = 5",
        "CHILDREN = 5; app.conf.worker_max_tasks_per_child = CHILDREN",
    ],
)
def test_the_line_that_gives_a_setting_is_found(tmp_path, source):
    assert lines_of(tmp_path, source, "worker_max_tasks_per_child", 5) == [f"set at tasks.py:1 in <module>: {source}"]


def test_the_function_that_gives_one_is_named(tmp_path):
    source = "def views():\n  def submit(ceiling):\n    return work.apply_async(time_limit=ceiling)\n  return submit"
    (line,) = lines_of(tmp_path, source, "task_time_limit", 5, option="time_limit")
    assert line == "set at tasks.py:3 in submit: return work.apply_async(time_limit=ceiling)"


@pytest.mark.parametrize(
    "source",
    [
        "app.conf.worker_max_tasks_per_child = 6",  # what counts was set elsewhere
        "app.conf.worker_max_memory_per_child = 5",
        "print(app.conf.worker_max_tasks_per_child == 5)",
    ],
)
def test_a_line_that_gives_another_setting_or_value_is_not(tmp_path, source):
    assert lines_of(tmp_path, source, "worker_max_tasks_per_child", 5) == []


def test_a_limit_may_be_an_option_of_the_task(tmp_path):
    source = "@app.task(time_limit=5, soft_time_limit=5)"
    hard = lines_of(tmp_path, f"{source}\ndef work(): ...", "task_time_limit", 5, option="time_limit")
    assert hard == [f"set at tasks.py:1 in <module>: {source}"]


def lines_of(folder, source, setting, value, **more):
    """Return what is found of a setting in the module of a task, which has this source."""
    file = folder / "tasks.py"
    file.write_text(source)
    namespace = {}
    exec(compile("def run(): ...", str(file), "exec"), namespace)
    frames = Frames(str(folder))
    frames.is_user = str(file).__eq__
    return set_at(frames, SimpleNamespace(name="t.work", run=namespace["run"]), setting, value, **more)


def test_a_soft_limit_is_not_taken_for_a_hard_one(tmp_path):
    assert lines_of(tmp_path, "task_soft_time_limit = 5", "task_time_limit", 5, option="time_limit") == []


# -- commands that change the number of slots


@pytest.mark.parametrize(
    ("pool", "found"),
    [
        (SimpleNamespace(grow=0, shrink=0), []),
        (SimpleNamespace(shrink=0), ["pool_grow"]),
        (SimpleNamespace(grow=0), ["pool_grow"]),
    ],
)
def test_a_command_to_grow_is_reported_where_the_pool_cannot(pool, found):
    reported = []
    watch = SimpleNamespace(
        bind=lambda: None,
        pool=SimpleNamespace(name="threads"),
        report=lambda *_, key, **__: reported.append(key),
    )
    detector = promised.Autoscaling(watch)
    node = SimpleNamespace(state=SimpleNamespace(consumer=SimpleNamespace(pool=pool)))
    detector._commanded(node, method="ping")
    detector._commanded(node, method="pool_grow", arguments={"n": 2})
    assert reported == found


# -- handlers of alarms


def raises(_number, _frame):
    raise TimeoutError


def asks(_number, _frame):
    return current_task.request.id


def gives_up(_number, _frame):
    raises(_number, _frame)


def sets_a_flag(_number, _frame):
    FLAGS.append(True)


class Watching:
    def raises(self, _number, _frame):
        raise TimeoutError


FLAGS = []


@pytest.mark.parametrize(
    "handler", [raises, asks, gives_up, Watching().raises, functools.partial(raises, 1), lambda *_: raises(1, None)]
)
def test_a_handler_that_raises_or_asks_for_its_task_needs_to_run_in_that(handler):
    assert _needs_its_task(handler)


@pytest.mark.parametrize("handler", [sets_a_flag, lambda *_: FLAGS.append(1), signal.SIG_DFL, print])
def test_a_handler_that_sets_a_flag_does_so_anywhere(handler):
    assert not _needs_its_task(handler)


# -- receivers of worker_process_shutdown


def tells_what_was_used(**_):
    FLAGS.append(resource.getrusage(resource.RUSAGE_SELF))


def lets_go(**_):
    FLAGS.close()
    print("closed")


@pytest.mark.parametrize(("function", "kind"), [(tells_what_was_used, UNSENT), (lets_go, "")])
def test_a_receiver_at_the_end_of_a_child_is_missed_if_it_does_more_than_let_go(function, kind):
    detector = object.__new__(InitSignals)
    detector._reaches = reach.Reaches(is_user)
    run = Run("id", SimpleNamespace(name="task", run=sets_a_flag), "")
    found, why = detector._missed_shutdown(run, function, "SUCCESS")
    assert found == kind
    assert ("getrusage() is not called" in why) == bool(kind)


# -- receivers that are methods


class Tariffs:
    def __init__(self):
        self.table = None

    def load(self, **_):
        self.table = {"eu": 4}


Tariffs.loaded = Tariffs()
Tariffs.loaded.load()


class Pricing:
    """As a task whose class has a property."""

    @property
    def table(self):
        return TARIFFS.table

    def run(self):
        return self.tariff

    @property
    def tariff(self):
        return TARIFFS.table


class Counting:
    """As a task that has nothing to do with it."""

    def run(self):
        return len(FLAGS)


TARIFFS = Tariffs()


@pytest.mark.parametrize(
    ("task", "loaded", "kind"), [(Pricing(), False, IGNORED), (Pricing(), True, ""), (Counting(), False, "")]
)
def test_what_a_method_would_have_set_on_its_object_is_missed_by_tasks_that_read_it(monkeypatch, task, loaded, kind):
    monkeypatch.setattr(TARIFFS, "table", {"eu": 4} if loaded else None)
    detector = object.__new__(InitSignals)
    detector.watch = SimpleNamespace(frames=Frames(os.path.dirname(__file__)))
    detector._reaches = reach.Reaches(is_user)
    detector._owners, detector._mentions = {Tariffs.load: [Tariffs.loaded, TARIFFS]}, {}
    task.name = "task"
    found, why = detector._missed_init(Run("id", task, ""), Tariffs.load, "FAILURE")
    assert found == kind
    assert ("Tariffs.table is None" in why) == bool(kind)


class Registry:
    """As a descriptor that a receiver fills: until then a task gets the descriptor itself."""


def receiver_of(registry):
    def fill(**_):
        registry.refill()

    return fill


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (TypeError("'Registry' object is not subscriptable"), IGNORED),
        (AttributeError("'Registry' object has no attribute 'charge'"), IGNORED),
        (TypeError("'Order' object is not subscriptable"), UNSENT),
        (ValueError("no such 'Registry'"), UNSENT),
        (None, UNSENT),
    ],
)
def test_a_failure_that_names_what_a_receiver_fills_says_that_it_is_missed(exc, kind):
    detector = object.__new__(InitSignals)
    detector.watch = SimpleNamespace(frames=Frames(os.path.dirname(__file__)))
    detector._reaches, detector._owners, detector._mentions = reach.Reaches(is_user), {}, {}
    found, _ = detector._missed_init(
        Run("id", SimpleNamespace(name="task", run=sets_a_flag), ""), receiver_of(Registry()), exc
    )
    assert found == kind


def asks_by_name(_number=None, _frame=None):
    """As a task that knows only the name under which the tariffs are kept."""
    return len(str(TARIFFS))


@pytest.mark.parametrize(
    ("task", "loaded", "kind"),
    [(asks_by_name, False, IGNORED), (asks_by_name, True, ""), (sets_a_flag, False, "")],
)
def test_nothing_where_a_method_would_have_set_something_says_that_it_is_missed(monkeypatch, task, loaded, kind):
    """If the task uses what is empty: it may have failed for another reason."""
    monkeypatch.setattr(TARIFFS, "table", {"eu": 4} if loaded else None)
    module = types.ModuleType("users_tariffs")
    module.__file__, module.TARIFFS = __file__, TARIFFS
    monkeypatch.setitem(sys.modules, "users_tariffs", module)
    detector = object.__new__(InitSignals)
    detector.watch = SimpleNamespace(frames=Frames(os.path.dirname(__file__)))
    detector._reaches, detector._owners, detector._mentions = reach.Reaches(is_user), {Tariffs.load: [TARIFFS]}, {}
    run = Run("id", SimpleNamespace(name="task", run=task), "")
    assert detector._missed_init(run, Tariffs.load, TypeError("'NoneType' object"))[0] == kind


# -- coroutines


async def deliver():
    """As a task's result."""


class Channel:
    async def push(self):
        """As a task's result too."""

    def run(self):
        if FLAGS:
            return None
        return self.push()


@pytest.mark.parametrize(("task", "lines"), [(Channel().run, 1), (lambda: deliver(), 0)])
def test_the_line_that_returns_a_coroutine_is_told(task, lines):
    told = []
    detector = object.__new__(Coroutines)
    detector.watch = SimpleNamespace(
        frames=Frames(os.path.dirname(__file__)),
        pool=SimpleNamespace(name="prefork"),
        report=lambda _kind, _run, _message, evidence, *_, **__: told.append(evidence),
    )
    result = task()
    detector.returned(Run("id", SimpleNamespace(name="task", run=task), ""), result)
    result.close()
    ((first, *others),) = told
    assert "async def " in first
    assert sum(line.startswith("returned at ") and "return self.push()" in line for line in others) == lines
