"""Where an application can be imported from by another process."""

import sys
import types

import pytest
from celery import Celery, _state

from pytest_celerypool.agent import loading
from pytest_celerypool.application import Current, eager_note, locate
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
