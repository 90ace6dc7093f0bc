"""Which tasks stand where they await an answer on one stream."""

import importlib
import io
import itertools
import os
import socket
import threading
import time
import types

import pytest

from pytest_celerypool.agent.detectors.sharing.streams import Streams, is_stream
from pytest_celerypool.agent.frames import Frames
from pytest_celerypool.agent.meters import Run

NUMBERS = itertools.count()

SOURCE = """
import io
import threading

lock = threading.Lock()
asked = io.StringIO()


def ask(sock):
    sock.sendall(b"?")
    return sock.recv(16)


def ask_alone(sock):
    with lock:
        sock.sendall(b"?")
        return sock.recv(16)


def ask_in_one_line(sock):
    with lock: return sock.sendall(b"?") or sock.recv(16)


def ask_behind_an_acquire(sock):
    lock.acquire(); sock.sendall(b"?"); answer = sock.recv(16); lock.release()


def listen(sock):
    return sock.recv(16)


def go_through(file):
    asked.write("?")
    for line in file:
        return line
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's module."""
    name = f"users_streams_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module(name)


@pytest.fixture
def look(tmp_path):
    """Runs a function in threads until they stand still, and has the detector look; returns what it reports."""

    def run(function, streams, peers):
        told, running, threads = [], {}, []
        for number, stream in enumerate(streams):
            threads.append(threading.Thread(target=function, args=(stream,)))
            threads[-1].start()
            running[threads[-1].ident] = Run(str(number), types.SimpleNamespace(name="task"), "")
        time.sleep(0.05)
        watch = types.SimpleNamespace(
            frames=Frames(str(tmp_path)),
            pool=types.SimpleNamespace(name="threads"),
            recorder=types.SimpleNamespace(running=running),
            running=lambda: list(running.values()),
            report=lambda kind, _run, _message, evidence, *_, **__: told.append((kind, evidence[0])),
        )
        Streams(watch)._look()
        for peer in peers:
            peer.sendall(b"end\n" * 8)
        for thread in threads:  # some of them wait for more, and end when there is no more to come
            thread.join(0.2)
        for peer in peers:
            peer.close()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        return told

    return run


def pairs(count):
    return zip(*(socket.socketpair() for _ in range(count)), strict=True)


def test_two_that_await_an_answer_on_one_socket_are_told_of(module, look):
    (mine,), peers = pairs(1)
    ((kind, line),) = look(module.ask, [mine, mine], peers)
    mine.close()
    assert kind == "shared-stream"
    assert line.endswith("in ask: return sock.recv(16)")


@pytest.mark.parametrize("name", ["listen", "ask_alone", "ask_in_one_line", "ask_behind_an_acquire"])
def test_who_only_listens_or_has_a_lock_is_not(module, look, name):
    (mine,), peers = pairs(1)
    assert look(getattr(module, name), [mine, mine], peers) == []
    mine.close()


def test_each_with_its_own_is_not(module, look):
    mine, peers = pairs(2)
    assert look(module.ask, mine, peers) == []
    for each in mine:
        each.close()


def test_a_loop_over_a_pipe_reads_it(module, look):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb", buffering=0) as answers:
        ((_, line),) = look(
            module.go_through, [file, file], [types.SimpleNamespace(sendall=answers.write, close=answers.close)]
        )
    assert line.endswith("for line in file:")


def test_files_and_what_is_closed_or_in_memory_are_no_streams(tmp_path):
    one, other = socket.socketpair()
    reading, writing = os.pipe()
    with open(tmp_path / "file", "w") as file, os.fdopen(reading) as pipe, one, other:
        assert [is_stream(each) for each in (one, pipe, file, io.StringIO(), object())] == [
            True,
            True,
            False,
            False,
            False,
        ]
    os.close(writing)
    assert not is_stream(one)
