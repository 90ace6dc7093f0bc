"""Point one application at the run's broker and result backend, and put it back.

Used in pytest's process and in the worker alike. Only the given application is touched: no environment
variable, no other application, no module of Celery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: Transport options that shape how messages behave and say nothing of where they go; the rest of the
#: application's own (SSL, sentinel, sockets' options) belongs to a server it must not talk to.
_BEHAVIOUR = (
    "visibility_timeout",
    "priority_steps",
    "sep",
    "queue_order_strategy",
    "unacked_restore_limit",
    "confirm_publish",
    "max_retries",
    "interval_start",
    "interval_step",
    "interval_max",
    "polling_interval",
)
_BACKEND_BEHAVIOUR = ("result_chord_ordered", "visibility_timeout", "retry_policy")

_MISSING = object()


def redirect(app: Any, target: Mapping[str, Any], **settings: Any) -> Callable[[], None]:
    """Make `app` talk to `target` whatever its own configuration or the environment says.

    :param app: a Celery application.
    :param target: a :class:`pytest_celerypool.broker.Target`; where a URL is ``None`` the application's own
        server is kept and only the isolation is added.
    :param settings: further settings to hold meanwhile.
    :returns: a function that restores the configuration and the connections the application had.
    """
    conf = app.conf.finalize()  # until then the settings are a promise that the first read replaces
    original_class = conf.__class__
    saved = dict(conf.changes)
    values = {**_broker(conf, target), **_backend(conf, target), **settings}
    for key, value in values.items():
        conf[key] = value
    written = dict(conf.changes)
    conf.__class__ = _ignoring_environment(original_class, values)
    undo_connections = _swap_connections(app, fixed_backend="result_backend" in values)

    def restore() -> None:
        undo_connections()
        conf.__class__ = original_class
        for key, value in written.items():
            before = saved.get(key, _MISSING)
            if before is value:
                continue
            if before is _MISSING:
                conf.changes.pop(key, None)
            else:
                conf.changes[key] = before

    return restore


def _broker(conf: Any, target: Mapping[str, Any]) -> dict[str, Any]:
    url = target["broker_url"]
    own = dict(conf.broker_transport_options or {})
    if url is None:
        values: dict[str, Any] = {"broker_transport_options": {**own, **target["broker_transport_options"]}}
    else:
        kept = {key: own[key] for key in _BEHAVIOUR if key in own}
        values = {
            "broker_url": url,
            "broker_read_url": url,
            "broker_write_url": url,
            "broker_transport_options": {**kept, **target["broker_transport_options"]},
            "broker_use_ssl": False,
            "broker_user": None,
            "broker_password": None,
            "broker_vhost": None,
            "broker_port": None,
            "broker_login_method": None,
            "broker_transport": None,
        }
    if target["transport"] is not None:
        values["broker_transport"] = target["transport"]
    values["broker_connection_retry_on_startup"] = True
    return values


def _backend(conf: Any, target: Mapping[str, Any]) -> dict[str, Any]:
    url = target["backend_url"]
    own = dict(conf.get("result_backend_transport_options") or {})
    if url is None:
        return {"result_backend_transport_options": {**own, **target["result_backend_transport_options"]}}
    kept = {key: own[key] for key in _BACKEND_BEHAVIOUR if key in own}
    values: dict[str, Any] = {
        "result_backend": url,
        "result_backend_transport_options": {**kept, **target["result_backend_transport_options"]},
        "redis_backend_use_ssl": None,
        "redis_username": None,
        "redis_password": None,
        "redis_socket_keepalive": False,
    }
    if "redis_backend_credential_provider" in conf:
        values["redis_backend_credential_provider"] = None
    return values


def _ignoring_environment(cls: type[Any], values: Mapping[str, Any]) -> type[Any]:
    """Return a subclass of Celery's ``Settings`` whose URLs come from the configuration alone.

    The properties of ``celery.app.utils.Settings`` prefer ``CELERY_BROKER_URL`` and its siblings in the
    environment; unsetting these instead would redirect every other application of the process.
    """
    names = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")

    def reader(name: str) -> property:
        return property(lambda self: self[name])

    return type(cls.__name__, (cls,), {name: reader(name) for name in names if name in values})


def _swap_connections(app: Any, *, fixed_backend: bool) -> Callable[[], None]:
    """Take away the pools and the backend that `app` opened so far; return what puts them back."""
    # Not at module level: the agent's entry point may not import it before a green library has patched.
    import threading

    amqp = app.amqp
    saved = {
        "_pool": app._pool,
        "_local": app._local,
        "_backend_cache": app.__dict__.get("_backend_cache", _MISSING),
        "backend_cls": app.backend_cls,
    }
    producer_pool = amqp._producer_pool
    app._pool = None
    app._local = threading.local()
    if saved["_backend_cache"] is not _MISSING:
        app._backend_cache = None
    if fixed_backend:
        app.backend_cls = None
    amqp._producer_pool = None

    def put_back() -> None:
        for name, value in saved.items():
            if value is not _MISSING:
                setattr(app, name, value)
        amqp._producer_pool = producer_pool

    return put_back
