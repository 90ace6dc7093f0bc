"""Start a host, have it run tests, and end it: the side of the process that pytest was started in."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_celerypool.channel import Channel, Message
from pytest_celerypool.serving import STACKS

if TYPE_CHECKING:
    from pytest_celerypool.reaper import Reaper

#: Seconds until a host must have said something new while it starts and collects.
START_TIMEOUT_S = 60.0
#: Seconds that the fixtures of a host have for their teardown at its end.
CLOSE_GRACE_S = 10.0
#: The same after Ctrl-C.
INTERRUPT_GRACE_S = 2.0
#: Seconds without a sign of life after which a host is taken for hung.
SILENCE_S = 60.0

#: How many tests may find out for themselves that a host cannot start.
_ATTEMPTS = 3
#: How often it is looked whether a host lives: its end mostly shows at once, unless a child of it holds the socket.
_SLICE_S = 0.2
#: What it is told is short, so that even a host that reads nothing cannot hold up who tells it.
_SEND_TIMEOUT_S = 10.0
_STACKS_S = 1.0
#: Seconds until a host that has said all must have exited.
_EXIT_S = 3.0
_LOG_TAIL_LINES = 60


class HostError(Exception):
    """A host cannot start, has died or hangs; the text begins with its name."""


@dataclass(frozen=True)
class Surroundings:
    """What every host of a run is given.

    :ivar folder: the run's private folder.
    :ivar args: pytest's own arguments.
    :ivar directory: where pytest was started.
    :ivar environment: the environment of the process.
    :ivar basetemp: the folder of this process's temporary folders, if it has one.
    :ivar capture: whether what a host prints outside of tests goes to its log; ``-s`` shows it.
    """

    folder: Path
    args: Sequence[str]
    directory: str
    environment: Mapping[str, str]
    basetemp: str | None
    capture: bool


@dataclass(frozen=True)
class Tests:
    """What one host is for.

    :ivar name: its pool, which is its name.
    :ivar files: the files that hold its tests.
    :ivar workerinput: what it is told as a node of xdist would be.
    """

    name: str
    files: Sequence[str]
    workerinput: Mapping[str, Any]


@dataclass
class Farewell:
    """What a host said at its end.

    :ivar problem: what failed in its last teardown, when there was no test any more to report it for.
    """

    name: str
    output: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


class Host:
    """One host, in a process group of its own.

    :param surroundings: what every host of the run is given.
    :param tests: what this one is for.
    :param folder: a folder of its own.
    :param reaper: ends it if pytest dies first.
    """

    def __init__(self, surroundings: Surroundings, tests: Tests, folder: Path, reaper: Reaper) -> None:
        self.name = tests.name
        self._reaper = reaper
        self._log = folder / "host.log"
        self._heartbeat = folder / "heartbeat"
        self._interrupted = False
        self._killed = False
        #: What the host said of an error in pytest itself before it ended.
        self._broken: str | None = None
        # A thread more than there was: prefork may have none, and from Python 3.12 on a process that forks is warned
        # of any, which it is wherever gevent starts a subprocess.
        self._beats = tests.name != "prefork" and sys.version_info < (3, 12)
        self._log_start = 0
        folder.mkdir(mode=0o700)
        self._heartbeat.touch()
        self._start(surroundings, tests, folder)
        self._beat: tuple[int, float] = (0, time.monotonic())
        basetemp = None if surroundings.basetemp is None else os.path.join(surroundings.basetemp, folder.name)
        self._channel.send(
            "begin",
            args=list(surroundings.args),
            workerinput=dict(tests.workerinput),
            basetemp=basetemp,
            files=list(tests.files),
        )

    def _start(self, surroundings: Surroundings, tests: Tests, folder: Path) -> None:
        ours, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as log:
            config = folder / "host.json"
            config.write_text(json.dumps(self._configuration(theirs.fileno())), encoding="utf-8")
            output = log if surroundings.capture else None
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_celerypool.host", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=surroundings.directory,
                env={**surroundings.environment, **_as_node(tests.workerinput)},
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._reaper.kill_group(self._process.pid)
        self._channel = Channel(ours, _SEND_TIMEOUT_S)

    def _configuration(self, fd: int) -> dict[str, Any]:
        return {
            "name": self.name,
            "fd": fd,
            "path": [entry or os.getcwd() for entry in sys.path],
            "log": str(self._log),
            "heartbeat": str(self._heartbeat) if self._beats else None,
        }

    @property
    def pid(self) -> int:
        """The process id of the host."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Wait until the host has collected its tests; raises :exc:`HostError` if it never will have."""
        while True:
            message = self._receive(time.monotonic() + START_TIMEOUT_S, "while it started")
            if message[0] == "ready":
                return

    # -- a test

    def run(self, limit: float | None, *, renewed: bool = False, **command: Any) -> Iterator[Message]:
        """Run a test and return what the host says meanwhile, up to and with the message that the test has ended.

        :param limit: seconds that it may take, ``None`` if nobody set any.
        :param renewed: whether these begin anew with each message.
        :param command: what :class:`pytest_celerypool.serving.Server` is told.
        :raises HostError: the host died, or hung and was killed.
        """
        while_ = "while it ran this test"
        self._log_start = self._log.stat().st_size
        self._beat = (self._beat[0], time.monotonic())
        try:
            self._channel.send("run", **command)
        except OSError:
            raise HostError(self.ended(while_)) from None
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            message = self._receive(deadline, while_, watched=True)
            if limit is not None and renewed:
                deadline = time.monotonic() + limit
            if message[0] == "broken":
                continue
            yield message
            if message[0] in ("done", "missing", "exit", "interrupted"):
                return

    def _receive(self, deadline: float | None, while_: str, *, watched: bool = False) -> Message:
        """Return the next message; raises :exc:`HostError` if there is none in time, or ever."""
        while True:
            try:
                message = self._channel.receive(_SLICE_S)
                gone = message is None and self.dead()
                if gone:  # and a child of it still holds the socket
                    message = self._channel.receive(0.01)
            except EOFError:
                message, gone = None, True
            if message is None and gone:
                raise HostError(self.ended(while_))
            if message is not None:
                if message[0] == "broken":
                    self._broken = message[1]["text"]
                return message
            if deadline is not None and time.monotonic() > deadline:
                raise HostError(self._hung(f"hung {while_} and was killed"))
            if watched and self._silent():
                raise HostError(self._hung(f"gave no sign of life for {SILENCE_S:.0f} s {while_} and was killed"))

    def _silent(self) -> bool:
        beat, seen = self._beat
        try:
            now = self._heartbeat.stat().st_mtime_ns
        except OSError:  # somebody empties the folder of temporary files
            return False
        if now != beat:
            self._beat = (now, time.monotonic())
            return False
        return beat != 0 and self._beats and time.monotonic() - seen > SILENCE_S

    # -- what went wrong

    def dead(self) -> bool:
        """Whether the host has ended."""
        return self._process.poll() is not None

    def ended(self, while_: str) -> str:
        """Return how the host ended; it is about to, if it has closed its connection."""
        try:
            code: int | None = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        if self._broken is not None:
            return f"the {self.name} host failed {while_}:\n{self._broken}"
        return f"the {self.name} host {_how(code)} {while_}{self._log_tail()}"

    def _hung(self, what: str) -> str:
        """Kill the host; returns the text with its stacks, if it can still give them."""
        self._signal_group_leader(STACKS)
        self._wait_for_log()
        self.kill()
        return f"the {self.name} host (pid {self.pid}) {what}{self._log_tail()}"

    def _wait_for_log(self) -> None:
        deadline = time.monotonic() + _STACKS_S
        before = size = self._log.stat().st_size
        while time.monotonic() < deadline:
            time.sleep(0.05)
            now = self._log.stat().st_size
            if now > before and now == size:
                return
            size = now

    def _log_tail(self) -> str:
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = _shortened(file.read().decode(errors="replace").rstrip().splitlines())
        if not lines:
            return ", and logged nothing"
        return ". The end of its log:\n" + "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:])

    # -- the end

    def interrupt(self) -> None:
        """Pass Ctrl-C on: the host is in another process group."""
        self._interrupted = True
        self._signal_group_leader(signal.SIGINT)

    def begin_close(self) -> None:
        """Ask the host to tear down its fixtures and to end."""
        try:
            self._channel.send("close")
        except OSError:  # it is gone
            return

    def end(self, deadline: float) -> Farewell:
        """Wait for the host to end, then kill what is left of its process group; returns what it said."""
        farewell = Farewell(self.name)
        if self._interrupted:
            deadline = min(deadline, time.monotonic() + INTERRUPT_GRACE_S)
        try:
            while True:
                name, data = self._receive(deadline, "at its end")
                if name == "finished":
                    farewell.output, farewell.problem = data["output"], data["problem"]
                    self._process.wait(_EXIT_S)
                    break
        except HostError as exc:
            if not self._interrupted:
                farewell.problem = str(exc)
        except subprocess.TimeoutExpired:
            pass  # a thread of a test holds it up, but it has said all
        finally:
            self.kill()
        return farewell

    def kill(self) -> None:
        """Take the host away with all its processes."""
        if self._killed:
            return
        self._killed = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS says "not permitted" of a group of zombies
            pass
        self._process.wait(5)
        self._channel.close()
        self._reaper.forget_group(self.pid)

    def _signal_group_leader(self, number: int) -> None:
        if not self.dead():
            self._process.send_signal(number)


class Hosts:
    """The hosts of one pytest process: one a name, started when the first of its tests is to run.

    :param surroundings: what every host is given.
    :param tests: what each is for.
    :param reaper: ends them if pytest dies first.
    """

    def __init__(self, surroundings: Surroundings, tests: Mapping[str, Tests], reaper: Reaper) -> None:
        self._surroundings = surroundings
        self._tests = tests
        self._reaper = reaper
        self._hosts: dict[str, Host] = {}
        self._count: dict[str, int] = {}
        self._failures: dict[str, list[str]] = {}
        #: What no test is to blame for, and somebody should know.
        self.notes: list[str] = []

    def get(self, name: str) -> Host:
        """Return the host of that name, started if there is none; raises :exc:`HostError` if it cannot start."""
        if name in self._hosts and self._hosts[name].dead():
            self.notes.append(self._hosts[name].ended("between two tests"))
            self.discard(name)
        if name not in self._hosts:
            failures = self._failures.setdefault(name, [])
            if len(failures) >= _ATTEMPTS:
                first, _, _ = failures[-1].partition("\n")
                raise HostError(
                    f"the {name} host could not be started for {len(failures)} tests before and is not tried again; "
                    f"their failures show its log. {first}"
                )
            self._hosts[name] = host = self._start(name)
            try:
                host.wait_ready()
            except HostError as exc:
                self.discard(name)
                failures.append(str(exc))
                raise
            except KeyboardInterrupt:
                self.discard(name)
                raise
            failures.clear()
        return self._hosts[name]

    def _start(self, name: str) -> Host:
        number = self._count[name] = self._count.get(name, 0) + 1
        folder = self._surroundings.folder / (f"host-{name}" if number == 1 else f"host-{name}-{number}")
        return Host(self._surroundings, self._tests[name], folder, self._reaper)

    def discard(self, name: str) -> None:
        """Take a host away; the next test gets a new one."""
        host = self._hosts.pop(name, None)
        if host is not None:
            host.kill()

    def close(self) -> list[Farewell]:
        """End all, side by side; returns what each said."""
        hosts = list(self._hosts.values())
        self._hosts.clear()
        try:
            for host in hosts:
                host.begin_close()
            deadline = time.monotonic() + CLOSE_GRACE_S
            return [host.end(deadline) for host in hosts]
        finally:
            for host in hosts:  # another Ctrl-C
                host.kill()


def _shortened(lines: Iterable[str]) -> list[str]:
    """Leave out of the stacks in a log what pytest and this plugin do below a test, the same in each."""
    kept: list[str] = []
    begun, skipping, latest_first = 0, False, False
    for line in lines:
        if not line.startswith("  "):
            begun, skipping, latest_first = len(kept) + 1, False, "most recent call first" in line
        elif "in pytest_pyfunc_call" in line:
            if latest_first:
                skipping = True
            else:
                del kept[begun:]
        if not skipping:
            kept.append(line)
    return kept


def _as_node(workerinput: Mapping[str, Any]) -> dict[str, str]:
    """Return what xdist puts into the environment of a node."""
    return {
        "PYTEST_XDIST_TESTRUNUID": str(workerinput["testrunuid"]),
        "PYTEST_XDIST_WORKER": str(workerinput["workerid"]),
        "PYTEST_XDIST_WORKER_COUNT": str(workerinput["workercount"]),
    }


def _how(code: int | None) -> str:
    """Return how a process ended, as people say it."""
    if code is None:
        return "closed its connection"
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
