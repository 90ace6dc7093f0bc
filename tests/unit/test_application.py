"""Where an application can be imported from by another process."""

import sys
import types

import pytest
from celery import Celery, _state
from celery.result import AsyncResult, GroupResult

from pytest_celerypool.agent import loading
from pytest_celerypool.application import Current, _awaited, eager_note, locate
from pytest_celerypool.errors import WorkerError


@pytest.fixture
def app():
    return Celery("proj", set_as_current=False)


@pytest.fixture
def module(monkeypatch, tmp_path):
    """Makes a module that pretends to have been imported from a file."""

    def make(name, **attributes):
        made = types.ModuleType(name)
        made.__file__ = str(tmp_path / f"{name.replace('.', '/')}.py")
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return make


def test_an_application_is_found_in_the_module_that_holds_it(app, module):
    made = module("held_here", application=app)
    assert locate(app) == {"module": "held_here", "attribute": "application", "call": False, "file": made.__file__}


def test_of_several_modules_the_one_that_defines_the_tasks_is_taken(app, module):
    module("user", app=app)  # shorter, and so the choice among equals
    module("definer_of_tasks", app=app)

    def task():
        pass

    task.__module__ = "definer_of_tasks"
    app.task(task)
    assert locate(app)["module"] == "definer_of_tasks"


def test_a_module_of_tests_is_the_last_choice(app, module):
    module("test_something", app=app)
    module("proj_module", app=app)
    assert locate(app)["module"] == "proj_module"


def test_an_application_in_no_module_is_an_error_that_offers_the_factory(app):
    with pytest.raises(WorkerError, match=r"lives in no module.*--celery-app=MODULE:FACTORY\(\)"):
        locate(app)


def test_an_eager_application_is_noted(app):
    assert eager_note(app) is None
    app.conf.task_always_eager = True
    assert "task_always_eager is on in the application 'proj'" in eager_note(app)


@pytest.mark.parametrize("text", ["proj", "proj:app", "proj.celery:app", "proj:make()"])
def test_a_source_is_spelt_as_it_was_given(text):
    assert loading.spell(loading.parse(text)) == text


def test_what_is_no_application_is_refused(module):
    module("wrong_module", app="text")
    with pytest.raises(TypeError, match="wrong_module:app is 'text', not a Celery application"):
        loading.load(loading.parse("wrong_module:app"))


def test_a_factory_is_called(app, module):
    module("factory_module", make=lambda: app)
    assert loading.load(loading.parse("factory_module:make()")) is app


def test_a_file_that_no_name_leads_to_is_imported_from_its_path(tmp_path):
    file = tmp_path / "far_away.py"
    file.write_text("from celery import Celery\napp = Celery('far', set_as_current=False)\n")
    try:
        found = loading.load(loading.Source(module="far_away", attribute="app", call=False, file=str(file)))
        assert found.main == "far"
        assert sys.modules["far_away"].app is found
    finally:
        sys.modules.pop("far_away", None)


@pytest.fixture
def nothing_current(monkeypatch):
    """No application is the current one, and what a test makes so does not stay."""
    monkeypatch.setattr(_state._tls, "current_app", None)
    monkeypatch.setattr(_state, "default_app", None)


@pytest.mark.usefixtures("nothing_current")
def test_an_application_is_current_for_a_while_and_what_was_before_comes_back(app):
    current = Current(app)
    current.take()
    assert (_state._tls.current_app, _state.default_app) == (app, app)
    between = Celery("between")
    current.take()
    assert _state._tls.current_app is app
    current.give_back()
    assert (_state._tls.current_app, _state.default_app) == (between, None)


@pytest.mark.usefixtures("nothing_current")
def test_what_somebody_else_has_made_current_stays_so(app):
    current = Current(app)
    current.take()
    later = Celery("later")
    current.give_back()
    assert _state._tls.current_app is later


@pytest.fixture
def package(tmp_path):
    """Makes a package, and with it what forgets its modules."""

    def make(top, **files):
        for name, text in files.items():
            file = tmp_path / top / f"{name.replace('__', '/', 1) if name != '__init__' else name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        tops.append(top)
        return tmp_path / top

    tops = []
    yield make
    for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
        del sys.modules[name]


MAKES_APP = "from celery import Celery\napp = Celery('far', set_as_current=False)\n"


def test_a_file_in_packages_that_are_not_on_the_path_is_imported_with_them(package):
    folder = package(
        "far_package",
        __init__="",
        app=MAKES_APP,
        inner____init__="from .. import app\n",
        inner__tasks="from ..app import app\n",
    )
    source = loading.Source(
        module="far_package.inner.tasks", attribute="app", call=False, file=str(folder / "inner" / "tasks.py")
    )
    assert loading.load(source).main == "far"
    assert sys.modules["far_package"].__file__ == str(folder / "__init__.py")
    assert sys.modules["far_package.inner"].app is sys.modules["far_package.app"]


def test_the_package_beside_the_file_is_meant_and_not_another_of_its_name(package, tmp_path, monkeypatch):
    installed = tmp_path / "installed" / "twice"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("raise AssertionError('the wrong one')\n")
    monkeypatch.syspath_prepend(installed.parent)
    folder = package("twice", __init__="", app=MAKES_APP, tasks="from .app import app\n")
    source = loading.Source(module="twice.tasks", attribute="app", call=False, file=str(folder / "tasks.py"))
    assert loading.load(source).main == "far"


def test_a_package_that_holds_the_application_itself_is_imported_from_its_path(package):
    folder = package("far_top", __init__="from .inside import app\n", inside=MAKES_APP)
    source = loading.Source(module="far_top", attribute="app", call=False, file=str(folder / "__init__.py"))
    assert loading.load(source).main == "far"


def test_a_result_is_awaited_with_those_before_it_in_its_chain(app):
    first = AsyncResult("first", app=app)
    header = GroupResult("header", [AsyncResult("left", app=app), AsyncResult("right", app=app)], parent=first, app=app)
    body = AsyncResult("body", parent=header, app=app)
    assert dict(_awaited(body)) == {"body": ("left", "right", "first")}
    assert dict(_awaited(header)) == {"left": ("first",), "right": ("first",)}
    assert dict(_awaited(first)) == {"first": ()}
