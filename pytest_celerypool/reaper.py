"""Clean up after pytest however it ends: a small process that outlives it.

:class:`Reaper` is pytest's side. The other side is this same file, run as a script in a session of its own.
It reads commands, one JSON object a line, from a pipe whose only writing end pytest holds. When that end
closes without a ``done`` before, pytest was killed or left by ``os._exit``; then the script kills the process
groups, runs the clean-up commands and removes the folders that it was told of, in this order.

A pipe and not ``PR_SET_PDEATHSIG``: that is Linux's alone, and it follows the thread that forked.

The script runs with ``-I -S``, so that it starts fast and finds nothing but the standard library; this module
must not import anything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, TypeAlias

FOLDER_PREFIX = "celerypool-"
"""What the name of a folder must begin with to be removed."""

COMMAND_SECONDS = 10.0
"""How long all clean-up commands together may take before they are killed."""

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Environment: TypeAlias = Mapping[str, str]


def removable(path: str) -> bool:
    """Say whether the folder at `path` is one of ours: its name, its place, its owner, and no symbolic link.

    A wrong path here would delete a user's files, so all four must hold. ``/tmp`` is accepted beside
    :func:`tempfile.gettempdir` because the path of a socket must be short and ``TMPDIR`` often is not.
    """
    roots = {os.path.realpath(tempfile.gettempdir()), os.path.realpath("/tmp")}
    folder, name = os.path.split(os.path.abspath(path))
    if not name.startswith(FOLDER_PREFIX) or os.path.realpath(folder) not in roots:
        return False
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return os.path.isdir(path) and not os.path.islink(path) and status.st_uid == os.getuid()


class Reaper:
    """Pytest's side: says what has to go if pytest dies. Make it with :meth:`start`.

    No method raises if the script is gone: it is a second line, and pytest cleans up by itself first. In a
    forked child of pytest every method does nothing, so that only pytest's own end counts.
    """

    def __init__(self, process: subprocess.Popen[bytes], pipe: int) -> None:
        self._process = process
        self._lock = threading.Lock()
        # A raw FileIO, because eventlet replaces os.write by a function that waits for its hub.
        self._pipe: BinaryIO | None = open(pipe, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        self._owner = os.getpid()
        # The pipe closes itself on exec, but a child that only forks would keep it open after pytest's death.
        os.register_at_fork(after_in_child=self._drop)

    @classmethod
    def start(cls) -> Reaper:
        """Start the script and return without waiting for it; raises :exc:`OSError` if it cannot start."""
        reading, writing = os.pipe()  # neither is inherited: PEP 446
        # Non-blocking, so that a script that hangs cannot hold up pytest.
        os.set_blocking(writing, False)
        try:
            with _blocked(_IGNORED):
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", os.path.abspath(__file__)],
                    stdin=reading,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return cls(process, writing)

    @property
    def pid(self) -> int:
        """The process id of the script."""
        return self._process.pid

    def kill_group(self, pgid: int) -> None:
        """Have the process group `pgid` killed if pytest dies."""
        self._send({"do": "kill", "group": pgid})

    def forget_group(self, pgid: int) -> None:
        """Take back :meth:`kill_group`: the group has ended, and its number may soon be another's."""
        self._send({"do": "forget", "group": pgid})

    def remove_folder(self, path: str | os.PathLike[str]) -> None:
        """Have the folder at `path` removed if pytest dies.

        Raises :exc:`ValueError` if it is not :func:`removable`.
        """
        text = os.path.abspath(path)
        if not removable(text):
            raise ValueError(
                f"{text} is not a folder of ours in {tempfile.gettempdir()}: its name must begin with {FOLDER_PREFIX!r}"
            )
        self._send({"do": "remove", "path": text})

    def run_at_end(self, argv: Sequence[str], env: Environment | None = None) -> None:
        """Have `argv` run if pytest dies, after the kills, with `env` added to pytest's environment."""
        self._send({"do": "run", "argv": list(argv), "env": dict(env or {})})

    def close(self) -> None:
        """Forget everything and end the script; waits at most a second for its exit."""
        if os.getpid() != self._owner:
            return
        self._send({"do": "done"})
        with self._lock:
            self._drop()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            # It has nothing left to do that could be lost.
            self._process.kill()
            self._process.wait(1.0)

    def _send(self, command: Mapping[str, object]) -> None:
        line = json.dumps(command).encode() + b"\n"
        with self._lock:
            if self._pipe is None:
                return
            # A script that is gone, or that does not read, is no reason to fail a test.
            with contextlib.suppress(OSError):
                self._pipe.write(line)

    def _drop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if os.getpid() != self._owner:
            # Nobody may hold the lock in a child: the thread that did was not copied.
            self._lock = threading.Lock()


@contextlib.contextmanager
def _blocked(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Block `signals` in this thread; a process started meanwhile has them blocked until it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Script:
    """The other side: remembers the commands, and carries them out at the end."""

    def __init__(self) -> None:
        self.groups: set[int] = set()
        self.folders: list[str] = []
        self.commands: list[tuple[list[str], dict[str, str]]] = []

    def read(self, pipe: BinaryIO) -> bool:
        """Take commands until the pipe ends; returns whether there is anything left to clean up."""
        for line in pipe:
            try:
                command = json.loads(line)
            except ValueError:
                continue  # cut off in the middle: pytest died while it wrote
            if command["do"] == "done":
                return False
            self._take(command)
        return True

    def _take(self, command: dict[str, object]) -> None:
        match command:
            case {"do": "kill", "group": int(group)}:
                self.groups.add(group)
            case {"do": "forget", "group": int(group)}:
                self.groups.discard(group)
            case {"do": "remove", "path": str(path)}:
                self.folders.append(path)
            case {"do": "run", "argv": list(argv), "env": dict(env)}:
                self.commands.append((argv, env))

    def clean_up(self) -> None:
        """Kill, then run the commands (which need the workers dead and the folders there), then remove."""
        for group in self.groups:
            # 0 and 1 would mean our own group and every process we may signal.
            if group > 1:
                with contextlib.suppress(OSError):
                    os.killpg(group, signal.SIGKILL)
        self._run_commands()
        for path in self.folders:
            if removable(path):
                shutil.rmtree(path, ignore_errors=True)

    def _run_commands(self) -> None:
        deadline = time.monotonic() + COMMAND_SECONDS
        running: list[subprocess.Popen[bytes]] = []
        for argv, env in self.commands:
            with contextlib.suppress(OSError):
                running.append(_start(argv, env))
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def _start(argv: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    return subprocess.Popen(argv, env={**os.environ, **env}, stdin=nothing, stdout=nothing, stderr=nothing)


def main() -> None:
    """Be the script: read standard input to its end, then clean up unless it said ``done``."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)
    # Hold no folder that somebody may want to unmount or remove.
    os.chdir("/")
    script = _Script()
    if script.read(sys.stdin.buffer):
        script.clean_up()


if __name__ == "__main__":
    main()
