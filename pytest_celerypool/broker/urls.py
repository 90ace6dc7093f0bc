"""URLs of brokers and result backends: what kind of server they name, how to show and how to complete them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

_REDIS = ("redis", "rediss", "redis+socket", "sentinel")
_AMQP = ("amqp", "amqps", "pyamqp")
_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671}

Kind = Literal["embedded", "redis", "amqp", "other"]


@dataclass(frozen=True)
class AppUrls:
    """What an application is configured with, for ``app``: its servers, and how it connects to them.

    Several URLs for failover are one text, separated by ``;``. ``ssl`` and ``backend_ssl`` are the settings
    ``broker_use_ssl`` and ``redis_backend_use_ssl``.
    """

    read_url: str
    write_url: str
    backend_url: str | None
    transport_options: Mapping[str, Any] = field(default_factory=dict)
    backend_transport_options: Mapping[str, Any] = field(default_factory=dict)
    ssl: Any = None
    backend_ssl: Any = None

    @classmethod
    def of(cls, app: Any) -> AppUrls:
        """Return those of the Celery application `app`, its environment variables considered."""
        conf = app.conf
        backend = app.backend_cls or conf.result_backend
        return cls(
            read_url=_url_of(conf.broker_read_url, app.connection_for_read),
            write_url=_url_of(conf.broker_write_url, app.connection_for_write),
            backend_url=backend if backend is None or isinstance(backend, str) else repr(backend),
            transport_options=dict(conf.broker_transport_options or {}),
            backend_transport_options=dict(conf.result_backend_transport_options or {}),
            ssl=conf.broker_use_ssl or None,
            backend_ssl=conf.redis_backend_use_ssl or None,
        )


def _url_of(configured: Any, connect: Callable[[], Any]) -> str:
    if isinstance(configured, (list, tuple)):
        return ";".join(configured)
    if isinstance(configured, str) and "://" in configured:
        return configured
    return str(connect().as_uri(include_password=True))


class Place(TypedDict):
    """One server that users brought, as plain data: how to connect to it."""

    url: str
    options: dict[str, Any]
    ssl: Any


def scheme(url: str) -> str:
    """Return the scheme of the first of the URLs, as Celery takes it: ``redis`` alone is a backend too."""
    return url.split(";")[0].split("://")[0].rstrip("/").lower()


def kind_of(url: str) -> Kind:
    """Return which kind of server `url`, or the first of several, names."""
    first = scheme(url)
    return "redis" if first in _REDIS else "amqp" if first in _AMQP else "other"


def place_of(url: str, options: Mapping[str, Any] | None = None, ssl: Any = None) -> Place:
    """Return the server at `url`, with transport options and what is to be known of its certificates."""
    return Place(url=url if "://" in url else f"{url}://", options=dict(options or {}), ssl=ssl)


def spelled_out(url: str) -> str:
    """Return `url` with the host, the port and the virtual host or database that kombu takes where it names none.

    What a connection shows of itself can then be compared with what it was given. Several URLs, sockets and
    sentinels stay as they are.
    """
    from urllib.parse import quote, unquote, urlsplit, urlunsplit

    port = _PORTS.get(scheme(url))
    if port is None or ";" in url:
        return url
    amqp = kind_of(url) == "amqp"
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    host = parts.hostname or "localhost"
    if amqp and host == "localhost":
        host = "127.0.0.1"  # kombu does so once it connects
    if ":" in host:
        host = f"[{host}]"
    name = unquote(parts.path.removeprefix("/")).strip("/" if not amqp else "") or ("/" if amqp else "0")
    path = "/" + quote(name, safe="")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}:{parts.port or port}", path=path))


def masked(url: str) -> str:
    """Return `url`, or several separated by ``;``, without its password."""
    from kombu.utils.url import maybe_sanitize_url

    try:
        return ";".join(maybe_sanitize_url(one) for one in url.split(";"))
    except ValueError:  # a port that is no number
        return re.sub(r"//[^;]*@", "//**@", url)
