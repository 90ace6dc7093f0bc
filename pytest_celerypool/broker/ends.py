"""Which server is the broker and which the result backend, from what the options and the application say."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_celerypool.broker.urls import AppUrls, Kind, Place, kind_of, masked, place_of, scheme
from pytest_celerypool.errors import BrokerError

_SUPPORTED = (
    "Isolation works on Redis (redis://, rediss://, redis+socket://; sentinel:// through app) and RabbitMQ "
    "(amqp://, amqps://, pyamqp://). The default, --celery-broker=embedded, needs no server."
)

# Backends whose results never leave the process that stores them.
_SILENT_BACKENDS = ("", "disabled", "cache+memory", "memory", "in-memory")


@dataclass(frozen=True)
class End:
    """The broker or the result backend: its kind, its servers, and whether the application keeps its own."""

    kind: Kind
    said: str
    places: tuple[Place, ...] = ()
    kept: bool = False

    @property
    def url(self) -> str:
        """The URL of the first of its servers."""
        return self.places[0]["url"]

    @property
    def own_prefix(self) -> str:
        """The application's own prefix, which comes first: an ACL may allow no other keys."""
        return str(self.places[0]["options"].get("global_keyprefix") or "")

    def describe(self) -> str:
        """Return the text for pytest's header."""
        text = ", ".join(dict.fromkeys(masked(place["url"]) for place in self.places))
        if self.kept:
            text = f"the application's own {text}"
        how = {"redis": " (isolated by key prefix)", "amqp": " (isolated by names of queues and exchanges)"}
        return text + how.get(self.kind, "")


def broker_end(given: str, app: AppUrls) -> End:
    """Return the broker that ``--celery-broker=given`` means, for an application that is configured with `app`.

    Raises :exc:`BrokerError` if tests cannot be isolated there.
    """
    if given == "embedded":
        return End("embedded", "--celery-broker=embedded")
    if given != "app":
        kind = kind_of(given)
        said = f"--celery-broker={masked(given)}"
        if kind == "other":
            raise BrokerError(f"{said}: not a broker that tests can be isolated on. {_SUPPORTED}")
        return End(kind, said, (place_of(given),))
    urls = list(dict.fromkeys((app.read_url, app.write_url)))
    said = f"--celery-broker=app, the application's own {', '.join(map(masked, urls))}"
    kinds = {kind_of(url) for url in urls}
    if "other" in kinds or len(kinds) > 1 or len({scheme(url) == "amqps" for url in urls}) > 1:
        raise BrokerError(f"{said}: not a broker that tests can be isolated on. {_SUPPORTED}")
    places = tuple(place_of(url, app.transport_options, app.ssl) for url in urls)
    return End(kinds.pop(), said, places, kept=True)


def backend_end(given: str, app: AppUrls, notes: list[str]) -> End:
    """Return the result backend that ``--celery-backend=given`` means; `notes` takes what the run should say of it.

    Raises :exc:`BrokerError` if no result would come back from there.
    """
    if given == "embedded":
        return End("embedded", "--celery-backend=embedded")
    if given != "app":
        said = f"--celery-backend={masked(given)}"
        if scheme(given) in _SILENT_BACKENDS:
            raise BrokerError(
                f"{said}: its results never leave the worker. Give a backend that both processes reach, "
                "or use --celery-backend=embedded, the default."
            )
        return End("redis" if kind_of(given) == "redis" else "other", said, (place_of(given),))
    own = app.backend_url
    if own is None or scheme(own) in _SILENT_BACKENDS:
        notes.append(
            f"--celery-backend=app: the application's result backend is {own!r}, which gives no results to a "
            "test; the embedded server keeps them instead."
        )
        return End("embedded", "--celery-backend=app")
    said = f"--celery-backend=app, the application's own {masked(own)}"
    if kind_of(own) == "redis":
        place = place_of(own, app.backend_transport_options, app.backend_ssl)
        return End("redis", said, (place,), kept=True)
    if scheme(own) != "rpc":
        notes.append(f"--celery-backend=app: results are kept in {masked(own)}, and stay there after the run.")
    return End("other", said, (place_of(own),), kept=True)
