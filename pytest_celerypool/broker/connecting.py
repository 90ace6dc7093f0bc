"""Connect to a server that users bring, with a deadline, and say why it does not let us in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pytest_celerypool.broker.ends import End
from pytest_celerypool.broker.urls import Place, kind_of, scheme
from pytest_celerypool.errors import BrokerError

CHECK_SECONDS = 1.0
"""How long a server that users bring may take to answer."""


@contextlib.contextmanager
def connected(place: Place, seconds: float) -> Iterator[Any]:
    """Connect to `place` and give a channel of kombu's; its client is at ``.client`` for Redis.

    kombu parses the URL and takes the options as it does for the application. Of several URLs for failover
    the first that answers is taken. The transport is used directly, because a kombu connection tries again
    for longer than we may wait.
    """
    transport, established, _ = establish(place, seconds)
    try:
        yield transport.create_channel(established)
    finally:
        with contextlib.suppress(*errors()):
            transport.close_connection(established)


def establish(place: Place, seconds: float) -> tuple[Any, Any, str]:
    """Connect; returns the transport, what it established, and the URL that answered."""
    options = dict(place["options"])
    options.pop("global_keyprefix", None)
    if kind_of(place["url"]) == "redis":
        options.update(socket_connect_timeout=seconds, socket_timeout=seconds)
    # The URLs of a sentinel belong together.
    urls = [place["url"]] if scheme(place["url"]) == "sentinel" else place["url"].split(";")
    for left, url in zip(range(len(urls) - 1, -1, -1), urls, strict=True):
        try:
            return *_establish_one(_connectable(url), options, place["ssl"], seconds), url
        except errors():
            if not left:
                raise
    raise AssertionError("no URL")


def _establish_one(url: str, options: Mapping[str, Any], ssl: Any, seconds: float) -> tuple[Any, Any]:
    from kombu import Connection

    connection = Connection(url, ssl=ssl or False, connect_timeout=seconds, transport_options=dict(options))
    transport = connection.transport
    return transport, transport.establish_connection()


def _connectable(url: str) -> str:
    """Return `url` without what only Celery's result backend understands in its query."""
    head, mark, query = url.partition("?")
    if not mark or scheme(url) == "redis+socket":
        return url
    known = [pair for pair in query.split("&") if pair.startswith(("ssl_", "credential_provider"))]
    return "?".join((head, "&".join(known))) if known else head


def errors() -> tuple[type[BaseException], ...]:
    """Return what connecting to a broker may raise, its URL being wrong included."""
    import amqp
    from redis import exceptions

    return (
        OSError,
        amqp.exceptions.AMQPError,
        exceptions.RedisError,
        ValueError,
        TypeError,
        LookupError,
        ImportError,
    )


def checked(end: End, *, broker: bool) -> End:
    """Connect to every server of `end`; returns it with the URLs that answered, unless it keeps its own."""
    if end.kind not in ("redis", "amqp"):
        return end
    places = tuple(_check(end, place, broker=broker) for place in end.places)
    return end if end.kept else replace(end, places=places)


def _check(end: End, place: Place, *, broker: bool) -> Place:
    try:
        if broker:
            _parse(place["url"], place["ssl"])  # with its query, which connecting leaves out
        transport, established, url = establish(place, CHECK_SECONDS)
    except errors() as error:
        reason, hint = _explain(error, "--celery-broker" if broker else "--celery-backend")
        raise BrokerError(f"{end.said}: {reason}. {hint}") from error
    with contextlib.suppress(*errors()):
        transport.close_connection(established)
    return Place(url=url, options=place["options"], ssl=place["ssl"])


def _parse(url: str, ssl: Any) -> None:
    """Raise what kombu raises of a URL that it does not understand."""
    from kombu import Connection

    Connection(url, ssl=ssl or False)


def _explain(error: BaseException, option: str) -> tuple[str, str]:
    """Return why a server did not let us in, and what to do about it; `option` is the one that named it."""
    import amqp
    from redis import exceptions

    running = f"Is the server running? {option}=embedded, the default, needs none."
    # redis-py wraps the error of the socket.
    causes = {type(cause) for cause in _chain(error)}
    if ConnectionRefusedError in causes:
        return "connection refused", running
    if isinstance(error, (amqp.exceptions.AccessRefused, exceptions.AuthenticationError)):
        return f"authentication refused ({one_line(error)})", "Check the user and the password in the URL."
    if TimeoutError in causes or isinstance(error, exceptions.TimeoutError):
        return f"no answer within {CHECK_SECONDS:.0f} s", running
    if isinstance(error, (amqp.exceptions.AMQPError, exceptions.ResponseError)):
        return one_line(error), "Check the virtual host or the database in the URL."
    if isinstance(error, (TypeError, ValueError, LookupError)):
        return f"not understood ({one_line(error)})", "Check the URL and the transport options."
    return one_line(error), running


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line and without a full stop."""
    # An error of the amqp library also gives the numbers of its class and method.
    text = getattr(error, "reply_text", None) or str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__
