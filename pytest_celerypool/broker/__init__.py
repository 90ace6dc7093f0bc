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
import sys
from pathlib import Path
from typing import Any, TypedDict

from pytest_celerypool.broker.connecting import checked
from pytest_celerypool.broker.embedded import DATABASES, EmbeddedServer
from pytest_celerypool.broker.ends import End, backend_end, broker_end
from pytest_celerypool.broker.removal import REMAINS, Remains, plain, remove
from pytest_celerypool.broker.urls import AppUrls, Place, scheme, spelled_out
from pytest_celerypool.errors import BrokerError
from pytest_celerypool.reaper import Reaper

__all__ = ["AppUrls", "Broker", "EmbeddedServer", "Target", "open_broker"]

#: How Celery's result backend tries again to reach the embedded server. It does not go away for a moment, as others
#: do: if it is gone it was killed, and the default of 20 times a second would only hide that.
_RETRIES = {"max_retries": 2, "interval_start": 0, "interval_step": 0.05, "interval_max": 0.05}

#: Numbers the brokers of this process: those of one run share its id and its folder.
_numbers = itertools.count(1)


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


class Broker:
    """The broker and result backend of one pytest process; made by :func:`open_broker`.

    :ivar notes: sentences that the run should say once, such as that an application without a result backend
        was given one.
    """

    def __init__(self, broker: End, backend: End, scope: str, folder: Path, reaper: Reaper) -> None:
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

    def _describe(self, end: End) -> str:
        if end.kind == "embedded" and self._server is not None:
            return f"embedded {self._server.version} (unix socket, private)"
        return end.describe()

    def check(self) -> None:
        """Raise :exc:`BrokerError` if a server that users brought does not let us in, in about a second.

        Of several URLs for failover the run keeps to the first that answers; an application's own, kept by
        ``app``, fail over as they do without us.
        """
        try:
            self._broker = checked(self._broker, broker=True)
            self._backend = checked(self._backend, broker=False)
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
        url = None if end.kept else spelled_out(end.url)
        if end.kind == "redis":
            return url, None, {"global_keyprefix": end.own_prefix + prefix}
        name = "SSLTransport" if scheme(end.url) == "amqps" else "Transport"
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
        return None if self._backend.kept else spelled_out(self._backend.url)

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
                remove(self._remains(self._scope, logs))
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
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        # In the environment: everybody can read the arguments of a process, and a URL holds a password.
        env = {REMAINS: json.dumps(plain(remains)), "PYTHONPATH": path}
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
    ends = broker_end(broker, app_urls), backend_end(backend, app_urls, notes)
    own = folder / f"b{number}"
    own.mkdir(mode=0o700)
    opened = Broker(*ends, f"celerypool.{run_id}-{number}.", own, reaper)
    opened.notes += notes
    return opened
