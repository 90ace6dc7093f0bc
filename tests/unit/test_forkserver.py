"""The fork server: what its children see, how their end is told, and how it ends itself."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from billiard import connection

from pytest_celerypool.agent import family, generations
from pytest_celerypool.agent.forkserver import ForkServer, ServerGoneError
from pytest_celerypool.agent.generations import ChildPopen, Context, Generations, ServedPopen

STATE = {"is": "of the start"}


class Worker:
    """What a fork server needs of what billiard's children run."""

    def __init__(self, context: Any) -> None:
        names = ("inq", "inqW_fd", "outqR_fd", "synqR_fd", "synqW_fd", "maxtasks", "max_memory_per_child")
        vars(self).update(dict.fromkeys(names))
        self._shutdown = context.Event()
        self.on_ready_counter = context.Value("i")


class Process:
    """What a fork server needs of billiard's process object; the child runs a function in place of a pool's loop."""

    def __init__(self, context: Any, run: Callable[[Any], int]) -> None:
        self._name, self._identity, self.index = "one", (1,), 0
        self._run = run
        self._target = Worker(context)

    def _bootstrap(self) -> int:
        return self._run(self)


def look(process: Process) -> int:
    """Say by the exit status of the child what it sees."""
    if process._name == "sleeps":
        time.sleep(60)
    if process._name == "closes":
        os.closerange(3, 256)
        time.sleep(60)
    if process._name == "told":
        while not process._target._shutdown.is_set():
            time.sleep(0.001)
        return process._target.on_ready_counter.value
    return 10 if STATE["is"] == "of the start" else 20


@pytest.fixture
def context() -> Any:
    return Context(None)


@pytest.fixture
def server(context: Any) -> Iterator[ForkServer]:
    made = ForkServer(Process(context, look), context.memory)
    yield made
    made.close()


@pytest.fixture
def child(context: Any, server: ForkServer) -> Callable[[str], ServedPopen]:
    """Makes a child of the server that does what its name says."""

    def make(name: str) -> ServedPopen:
        process = Process(context, look)
        process._name = name
        made = ServedPopen(server, process)
        made.process = process
        return made

    return make


def descriptors() -> list[str]:
    gc.collect()
    found = []
    for fd in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found.append(f"{fd} {os.fstat(int(fd)).st_ino}")
    return sorted(found)


def test_a_child_has_the_state_of_the_servers_start(child: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(STATE, "is", "of later")
    assert child("looks").wait() == 10


def test_its_exit_status_is_told_as_billiard_tells_it(child: Any):
    made = child("sleeps")
    assert made.poll() is None
    assert made.wait(timeout=0.01) is None
    made.terminate()
    assert made.wait(timeout=10) == made.poll() == made.returncode == -signal.SIGTERM


def test_the_pool_and_a_child_share_its_numbers(child: Any):
    made = child("told")
    made.process._target.on_ready_counter.value = 7
    made.process._target._shutdown.set()
    assert made.wait() == 7


def test_a_child_that_has_closed_its_pipes_and_lives_is_waited_for_once(child: Any):
    made = child("closes")
    deadline = time.monotonic() + 10
    while not made._lives_without_pipes and time.monotonic() < deadline:
        assert made.poll() is None
    began = time.monotonic()
    assert [made.poll() for _ in range(5)] == [None] * 5
    assert time.monotonic() - began < generations._DYING_S


def test_the_end_of_a_child_is_seen_as_soon_as_its_pipes_are_closed(context: Any):
    """Or Celery would look again after five seconds."""
    for _ in range(20):
        made = ChildPopen(Process(context, look))
        connection.wait([made.sentinel], 10)
        assert made.poll() == 10
        made.close()


def test_numbers_of_children_that_are_gone_are_given_again(context: Any):
    indices = set()
    for _ in range(len(context.memory) * 2):
        cell = context.Event()
        assert not cell.is_set()
        cell.set()
        indices.add(cell.index)
    assert len(indices) == 2  # the last one lives until the next is there


def test_when_it_is_closed_nothing_is_left(context: Any):
    ForkServer(Process(context, look), context.memory).close()  # imports and the like are nobody's
    before = descriptors()
    server = ForkServer(Process(context, look), context.memory)
    process = Process(context, look)
    process._name = "sleeps"
    made = ServedPopen(server, process)
    running = psutil.Process(made.pid)
    server.close()
    assert not running.is_running()
    assert made.poll() == -signal.SIGKILL
    made.close()
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(server.pid, 0)


def test_a_server_that_is_killed_is_told_and_its_children_end(child: Any, server: ForkServer):
    made = child("looks")
    os.kill(server.pid, signal.SIGKILL)
    assert made.wait() in (10, -signal.SIGKILL)
    with pytest.raises(ServerGoneError, match=str(server.pid)):
        child("looks")


def test_signals_do_not_reach_it_and_its_children_hear_them(child: Any, server: ForkServer):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(server.pid, number)
    made = child("sleeps")
    os.kill(made.pid, signal.SIGUSR1)
    assert made.wait(timeout=10) == -signal.SIGUSR1


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(child: Any, server: ForkServer):
    """A signal's handler may raise while one is waited for."""
    made, dead = child("sleeps"), child("looks")
    connection.wait([dead.sentinel], 10)
    socket.send_fds(server._socket, [b'{"status": %d, "number": -1}\n' % dead.pid], [])
    connection.wait([server._socket.fileno()], 10)
    assert server.status(made.pid) is None


def test_other_children_do_not_keep_it_alive(child: Any, server: ForkServer):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    try:
        running = psutil.Process(server.pid)
        server._socket.close()
        running.wait(10)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_it_is_none_of_the_processes_that_run_tasks(child: Any, server: ForkServer, monkeypatch: pytest.MonkeyPatch):
    made = child("sleeps")
    monkeypatch.setattr(family, "_main", os.getpid())
    if not os.path.exists("/proc/self/comm"):
        pytest.skip("the system does not tell the children of a process")
    members = family.members()
    assert {os.getpid(), made.pid} <= set(members)
    assert server.pid not in members


def test_a_pool_that_is_restarted_begins_anew(context: Any):
    """Its next child comes from this process, and what comes after that from a new server."""
    restarts: list[str] = []
    task_pool = SimpleNamespace(Pool=object, BlockingPool=object, restart=lambda: restarts.append("restarted"))
    made = Generations(task_pool)
    pool = SimpleNamespace(_pool=[], _processes=1, _ctx=context)

    def launch() -> Any:
        process = Process(context, look)
        pool._pool[:] = [process]
        return made.launch(pool, process)

    kinds = [type(launch()).__name__ for _ in range(3)]
    task_pool.restart()
    kinds += [type(launch()).__name__ for _ in range(2)]
    made.close()
    assert restarts == ["restarted"]
    assert kinds == ["ChildPopen", "ServedPopen", "ServedPopen", "ChildPopen", "ServedPopen"]
