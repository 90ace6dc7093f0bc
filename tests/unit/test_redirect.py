"""One application is pointed at the run's servers and back, and nothing else is touched."""

import pytest
from celery import Celery

from pytest_celerypool.agent.redirect import Redirection

URL = "redis+socket:///nowhere/s?virtual_host=3"
TARGET = {
    "broker_url": URL,
    "backend_url": URL,
    "transport": None,
    "broker_transport_options": {},
    "result_backend_transport_options": {},
    "prefix": "p.",
}
KEPT = {
    **TARGET,
    "broker_url": None,
    "backend_url": None,
    "broker_transport_options": {"global_keyprefix": "p."},
    "result_backend_transport_options": {"global_keyprefix": "p."},
}
OWN = "redis://own:1/7"


@pytest.fixture
def app():
    made = Celery("proj", broker=OWN, backend=OWN, set_as_current=False)
    made.conf.broker_transport_options = {"visibility_timeout": 5, "master_name": "x"}
    assert made.conf.broker_url == OWN  # read once: until then the settings are a promise
    return made


@pytest.fixture
def redirected(app):
    redirection = Redirection(app, TARGET, task_always_eager=False)
    redirection.enter()
    yield app
    redirection.close()


def test_every_connection_points_at_the_target(redirected):
    for connection in (redirected.connection_for_read(), redirected.connection_for_write(), redirected.connection()):
        assert connection.as_uri() == URL.partition("?")[0]
    assert "nowhere" in redirected.backend.as_uri()


@pytest.mark.parametrize(
    "setting",
    [
        {"broker_read_url": OWN},
        {"broker_write_url": OWN},
        {"broker_use_ssl": {"ssl_cert_reqs": 0}},
        {"broker_url": [OWN, "amqp://other//"]},
        {"broker_transport": "amqp"},
    ],
)
def test_no_setting_of_the_application_leads_elsewhere(app, setting):
    app.conf.update(setting)
    redirection = Redirection(app, TARGET)
    redirection.enter()
    assert app.connection_for_read().as_uri() == app.connection_for_write().as_uri() == URL.partition("?")[0]
    assert not app.connection_for_write().ssl
    redirection.close()


def test_the_environment_leads_nowhere_else(app, monkeypatch):
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"):
        monkeypatch.setenv(name, OWN)
    redirection = Redirection(app, TARGET)
    redirection.enter()
    assert app.connection_for_read().as_uri() == app.connection_for_write().as_uri() == URL.partition("?")[0]
    assert "nowhere" in app.backend.as_uri()
    redirection.close()


def test_options_that_shape_messages_are_kept_and_those_of_the_own_server_are_not(redirected):
    assert redirected.conf.broker_transport_options == {"visibility_timeout": 5}


def test_afterwards_all_is_as_before(app):
    before = dict(app.conf.changes), type(app.conf), app.conf.broker_url, app.backend_cls
    redirection = Redirection(app, TARGET, task_always_eager=False)
    redirection.enter()
    redirection.leave()
    assert (dict(app.conf.changes), type(app.conf), app.conf.broker_url, app.backend_cls) == before
    assert app.connection_for_write().info()["virtual_host"] == "7"
    redirection.close()


def test_a_setting_that_a_test_changed_in_between_stays_changed(app):
    redirection = Redirection(app, TARGET)
    redirection.enter()
    app.conf.task_default_queue = "mine"
    redirection.leave()
    assert app.conf.task_default_queue == "mine"
    redirection.close()


def test_another_application_is_not_touched(redirected):
    other = Celery("other", broker="redis://other:1/2", set_as_current=False)
    assert other.connection_for_write().info()["virtual_host"] == "2"


def test_where_the_application_keeps_its_servers_only_the_isolation_is_added(app):
    redirection = Redirection(app, KEPT)
    redirection.enter()
    assert app.connection_for_write().info()["virtual_host"] == "7"
    assert app.conf.broker_transport_options["global_keyprefix"] == "p."
    assert app.conf.broker_transport_options["master_name"] == "x"
    redirection.close()


def test_connections_are_kept_for_the_next_time(app):
    redirection = Redirection(app, TARGET)
    redirection.enter()
    backend, pool = app.backend, app.pool
    redirection.leave()
    assert app.pool is not pool
    redirection.enter()
    assert (app.backend, app.pool) == (backend, pool)
    redirection.close()


@pytest.mark.parametrize("closing", [True, False])
def test_a_backend_is_remembered_only_to_be_closed(app, closing):
    """A worker in a process of its own ends with that process, and its green pools make a backend for each task."""
    redirection = Redirection(app, TARGET, closing=closing)
    redirection.enter()
    made = app.backend
    assert "nowhere" in made.as_uri()
    assert (made in redirection._made) is closing
    redirection.close()
    assert OWN.rpartition("/")[0] in app.backend.as_uri()
