"""Point one application at the run's broker and result backend, and put it back.

Used in pytest's process and in the worker alike. Only the given application is touched: no environment
variable, no other application, no module of Celery.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

#: Transport options that shape how messages behave and say nothing of where they go; the rest of the
#: application's own (SSL, sentinel, sockets' options) belongs to a server it must not talk to.
_BEHAVIOUR = (
    "visibility_timeout",
    "priority_steps",
    "sep",
    "queue_order_strategy",
    "unacked_restore_interval",
    "unacked_restore_limit",
    "unacked_restore_throttle",
    "confirm_publish",
    "max_retries",
    "interval_start",
    "interval_step",
    "interval_max",
    "polling_interval",
)
_BACKEND_BEHAVIOUR = ("result_chord_ordered", "visibility_timeout", "retry_policy")

_MISSING = object()


class Redirection:
    """One application pointed at one target; entered and left as often as wanted.

    The connections opened in between are kept for the next time: a test that reuses a worker reuses these.

    :param app: a Celery application.
    :param target: a :class:`pytest_celerypool.broker.Target`; where a URL is ``None`` the application's own
        server is kept and only the isolation is added.
    :param closing: whether :meth:`close` is to close the result backends too. Where the end of the process does that,
        nobody has to remember them: a green worker makes one for each task.
    :param settings: further settings to hold meanwhile.
    """

    def __init__(self, app: Any, target: Mapping[str, Any], *, closing: bool = True, **settings: Any) -> None:
        # Not at module level: the agent's entry point may not import it before a green library has patched.
        import threading

        self.app = app
        self._target = target
        self._closing = closing
        self._settings = settings
        self._connections: dict[str, Any] = {"_pool": None, "_local": threading.local(), "_backend_cache": None}
        self._producer_pool: Any = None
        #: Every thread and greenlet makes a backend of its own, which dies with it.
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        self._restore: Callable[[], None] | None = None

    def enter(self) -> None:
        """Make the application talk to the target whatever its own configuration or the environment says."""
        if self._restore is None:
            restore_settings, fixed_backend = self._change_settings()
            self._swap_connections()
            backend_cls = self.app.backend_cls
            if fixed_backend:
                self.app.backend_cls = None
            uncollect = self._collect_backends() if self._closing else None

            def restore() -> None:
                if uncollect is not None:
                    uncollect()
                self.app.backend_cls = backend_cls
                self._swap_connections()
                restore_settings()

            self._restore = restore

    def leave(self) -> None:
        """Give the application its own configuration and connections back."""
        if self._restore is not None:
            self._restore()
            self._restore = None

    def _change_settings(self) -> tuple[Callable[[], None], bool]:
        conf = self.app.conf.finalize()  # until then the settings are a promise that the first read replaces
        original_class = conf.__class__
        saved = dict(conf.changes)
        values = {**_broker(conf, self._target), **_backend(conf, self._target), **self._settings}
        for key, value in values.items():
            conf[key] = value
        written = dict(conf.changes)
        _change_class(conf, _ignoring_environment(original_class, values))

        def restore() -> None:
            _change_class(conf, original_class)
            for key, value in written.items():
                before = saved.get(key, _MISSING)
                if before is _MISSING:
                    conf.changes.pop(key, None)
                elif before is not value:
                    conf.changes[key] = before

        return restore, "result_backend" in values

    def _swap_connections(self) -> None:
        """Exchange the application's pools and backend for those kept here."""
        app = self.app
        for name, ours in self._connections.items():
            if hasattr(app, name):
                self._connections[name] = getattr(app, name)
                setattr(app, name, ours)
        app.amqp._producer_pool, self._producer_pool = self._producer_pool, app.amqp._producer_pool
        if "control" in vars(app):  # a worker in this process has its mailbox keep the pool that it replies through
            vars(app.control.mailbox).pop("producer_pool", None)

    def _collect_backends(self) -> Callable[[], None]:
        """Note every result backend that the application makes; returns a function that ends this."""
        before = vars(self.app).get("_get_backend", _MISSING)
        make = self.app._get_backend

        def get_backend() -> Any:
            backend = make()
            self._made.add(backend)
            return backend

        self.app._get_backend = get_backend

        def uncollect() -> None:
            if before is _MISSING:
                vars(self.app).pop("_get_backend", None)
            else:
                self.app._get_backend = before

        return uncollect

    def close(self) -> None:
        """Leave, and close the connections to the target."""
        self.leave()
        for pool in (self._producer_pool, self._connections["_pool"]):
            if pool is not None:
                pool.force_close_all()
                _forget_pool(pool)
        for backend in list(self._made):
            _close_backend(backend)
        self._made.clear()


def _forget_pool(pool: Any) -> None:
    """Take a closed pool out of kombu's groups, which would hand it out again for the same target."""
    from kombu import pools

    for group in (pools.producers, pools.connections):
        for key in [key for key, value in group.items() if value is pool]:
            dict.pop(group, key)


def _close_backend(backend: Any) -> None:
    if hasattr(backend, "remove_pending_result"):
        # A result that is collected later would connect again to end its subscription, for 20 s if the server is gone.
        backend.remove_pending_result = lambda result: result
    consumer = getattr(backend, "result_consumer", None)
    if consumer is not None:
        try:
            consumer.stop()
        except Exception:  # noqa: BLE001 - rpc's fails if it never consumed; the rest has to be closed all the same
            pass
    client: Any = getattr(backend, "__dict__", {}).get("client")
    if hasattr(client, "connection_pool"):
        client.connection_pool.disconnect()


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


def _change_class(conf: Any, cls: type[Any]) -> None:
    # Its own __setattr__ would take the class for one more setting.
    object.__setattr__(conf, "__class__", cls)


def _ignoring_environment(cls: type[Any], values: Mapping[str, Any]) -> type[Any]:
    """Return a subclass of Celery's ``Settings`` whose URLs come from the configuration alone.

    The properties of ``celery.app.utils.Settings`` prefer ``CELERY_BROKER_URL`` and its siblings in the
    environment; unsetting these instead would redirect every other application of the process.
    """
    names = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")

    def reader(name: str) -> property:
        return property(lambda self: self[name])

    return type(cls.__name__, (cls,), {name: reader(name) for name in names if name in values})
