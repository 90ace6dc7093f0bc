"""Fork children of a prefork pool in a process of one thread, with the state that the worker had when it was forked.

Why, and when there is one, is said in :mod:`pytest_celerypool.agent.generations`.

Written against billiard 4.2 and 4.3 (``popen_fork``, ``process``, ``pool``).
"""

from __future__ import annotations

import _socket  # the classes of ``socket`` may be others: gevent's, or those of a suite that forbids connections
import contextlib
import copy
import gc
import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any, NoReturn

from billiard import connection

from pytest_celerypool.agent import family

#: Within how many seconds a server must answer. A fork of a large process takes tens of milliseconds.
_ANSWER_S = 30.0

#: Within how many seconds a server must end.
_END_S = 2.0

#: How long to wait between two questions for the end of a process, in seconds.
LOOK_S = 0.001

#: More than any request is long, in bytes.
_REQUEST = 1 << 16

#: One for the sentinel, two for each queue of a child.
_MOST_DESCRIPTORS = 7


class ServerGoneError(RuntimeError):
    """A fork server was killed, or does not answer."""


class Cell:
    """A number that the main process of a worker and one child share."""

    def __init__(self, memory: memoryview, index: int) -> None:
        self._memory = memory
        self.index = index

    @property
    def value(self) -> int:
        """The number."""
        return int(self._memory[self.index])

    @value.setter
    def value(self, value: int) -> None:
        self._memory[self.index] = value

    def get_lock(self) -> contextlib.AbstractContextManager[None]:
        """Do nothing: the main process alone writes it, in one thread (``billiard.pool.ResultHandler``)."""
        return contextlib.nullcontext()

    def set(self) -> None:
        """Tell the child to end, as an event."""
        self.value = 1

    def is_set(self) -> bool:
        """Whether :meth:`set` was called."""
        return bool(self.value)


# -- the worker's side

#: The worker's ends of the sockets to the servers of this process.
_sockets: set[Any] = set()
_registered = False  # what os.register_at_fork was given once cannot be taken back


def _close_sockets() -> None:
    """A child that kept one would keep the server alive when the worker has died."""
    for each in _sockets:
        each.close()
    _sockets.clear()


class ForkServer:
    """A process that forks children of a pool, with the state that this one has now.

    :param process: a child of the pool that was forked just now: what all have in common is taken from it.
    :param memory: that of the cells.
    :ivar pid: its process id.
    :ivar children: the process ids of those of its children whose end is not known yet.
    """

    def __init__(self, process: Any, memory: memoryview) -> None:
        global _registered
        if not _registered:
            os.register_at_fork(after_in_child=_close_sockets)
            _registered = True
        self.children: set[int] = set()
        self._inq = process._target.inq
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._number = 0
        theirs: Any
        self._socket: Any
        self._socket, theirs = _socket.socketpair(socket.AF_UNIX)
        self._socket.settimeout(_ANSWER_S)
        theirs.settimeout(None)  # the process may have a default
        _sockets.add(self._socket)
        if sys.version_info >= (3, 12):
            # It warns of every fork of a process with threads: of a pool that was restarted.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=re.escape(__name__))
        # What the buffers hold would be written by the children once more.
        sys.stdout.flush()
        sys.stderr.flush()
        # The server hears no signal, Ctrl-C in its process group included. Its children get the mask back.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _serve(_Server(theirs, process, memory, mask, self._owner))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()

    def fork(self, process: Any, sentinel: int) -> int:
        """Fork a child; returns its process id.

        :param process: billiard's object, complete.
        :param sentinel: the descriptor of a pipe whose closing tells that the child has ended.
        :raises ServerGoneError: the server does not answer.
        :raises OSError: the system refuses.
        """
        worker = process._target
        # Where threads serve the pool, its children share the queues, and those the server has.
        queues = [] if worker.inq is self._inq else [queue for queue in (worker.inq, worker.outq, worker.synq) if queue]
        descriptors = [end.fileno() for queue in queues for end in (queue._reader, queue._writer)]
        answer = self._ask(
            {
                "process": {"_name": process._name, "_identity": process._identity, "index": process.index},
                # The numbers that descriptors have in the worker: a child quotes them in what it sends.
                "worker": {
                    name: getattr(worker, name)
                    for name in ("inqW_fd", "outqR_fd", "synqR_fd", "synqW_fd", "maxtasks", "max_memory_per_child")
                },
                "cells": {
                    name: None if cell is None else cell.index
                    for name in ("_shutdown", "on_ready_counter")
                    for cell in [getattr(worker, name)]
                },
            },
            [sentinel, *descriptors],
        )
        if "pid" not in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        pid = int(answer["pid"])
        self.children.add(pid)
        return pid

    def status(self, pid: int) -> int | None:
        """Return the exit status of a child in Python's form, ``None`` while it runs.

        :raises ServerGoneError: the server does not answer.
        """
        if os.getpid() != self._owner:  # in a child it is nobody's
            return None
        found: int | None = self._ask({"status": pid}, [])["status"]
        if found is not None:
            self.children.discard(pid)
        return found

    def _ask(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        with self._lock:
            self._number += 1
            line = json.dumps({**request, "number": self._number}).encode() + b"\n"
            try:
                socket.send_fds(self._socket, [line], descriptors)
                while True:
                    answer = _receive(self._socket)[0]
                    if answer is None:
                        break
                    # That to an earlier question, if an exception of a signal ended the wait for it.
                    if answer["number"] == self._number:
                        return answer
            except OSError:
                pass
            self.children.clear()
            self._socket.close()
            raise ServerGoneError(f"the fork server {self.pid} is gone")

    def close(self) -> None:
        """End it."""
        if os.getpid() != self._owner:
            return
        _sockets.discard(self._socket)
        self._socket.close()
        deadline = time.monotonic() + _END_S
        try:
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                    os.waitpid(self.pid, 0)
                    break
                time.sleep(LOOK_S)
        except ChildProcessError:  # waited for by somebody who waits for every child
            pass


def _receive(connected: Any) -> tuple[dict[str, Any] | None, list[int]]:
    """Return the next message, ``None`` at the end of all, and the descriptors that came with it."""
    line, descriptors = b"", list[int]()
    while not line.endswith(b"\n"):
        # What is sent in one piece with descriptors begins a piece that is received.
        data, found, _, _ = socket.recv_fds(connected, _REQUEST, _MOST_DESCRIPTORS)
        descriptors += found
        if not data:
            return None, descriptors
        line += data
    for fd in descriptors:
        os.set_inheritable(fd, False)
    return json.loads(line.splitlines()[-1]), descriptors


# -- the server's side


class _Server:
    """What a fork server has.

    :param connected: its end of the socket.
    :param template: a process of the pool.
    :param memory: that of the cells.
    :param mask: the signals that are blocked in the children.
    :param owner: the process id of the worker.
    """

    def __init__(self, connected: Any, template: Any, memory: memoryview, mask: set[Any], owner: int) -> None:
        self._socket = connected
        self._template = template
        self._memory = memory
        self._mask = mask
        self._children: set[int] = set()
        self._collects = gc.isenabled()
        gc.disable()  # nothing of the user's may run here, finalizers included
        family.come_from(owner)
        self._name = family.rename(family.NAME)

    def serve(self) -> None:
        """Answer until the worker ends, or its socket is closed."""
        while True:
            request, descriptors = _receive(self._socket)
            if request is None:
                return
            answer = self._answer(request, descriptors)
            for fd in descriptors:
                os.close(fd)
            self._socket.sendall(json.dumps({**answer, "number": request["number"]}).encode() + b"\n")

    def _answer(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        if "status" in request:
            return {"status": self._status(request["status"])}
        try:
            pid = os.fork()
        except OSError as exc:
            return {"errno": exc.errno}
        if pid == 0:
            self._become_child(request, descriptors)
        self._children.add(pid)
        return {"pid": pid}

    def _status(self, pid: int) -> int | None:
        if pid not in self._children:
            return None
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        self._children.discard(pid)
        return os.waitstatus_to_exitcode(status)

    def _become_child(self, request: dict[str, Any], descriptors: list[int]) -> NoReturn:
        """Do as ``billiard.popen_fork.Popen._launch`` does in a child."""
        code = 1
        try:
            self._socket.close()
            if self._name:
                family.rename(self._name)
            if self._collects:
                gc.enable()
            random.seed()
            process = self._process(request, descriptors[1:])
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            code = process._bootstrap()
        except BaseException:  # of the lines above alone: billiard prints and keeps what the child raises
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(code)

    def _process(self, request: dict[str, Any], descriptors: list[int]) -> Any:
        """Return the process object of the new child: that of the template, with what is its own."""
        process, worker = _copy(self._template), _copy(self._template._target)
        vars(process).update(request["process"], _identity=tuple(request["process"]["_identity"]), _target=worker)
        vars(worker).update(request["worker"])
        for name, index in request["cells"].items():
            setattr(worker, name, None if index is None else Cell(self._memory, index))
        ends = iter(descriptors)
        for name in ("inq", "outq", "synq") if descriptors else ():
            if getattr(worker, name) is not None:
                setattr(worker, name, _queue(getattr(worker, name), next(ends), next(ends)))
        return process

    def end(self) -> None:
        """Kill what is left of the children, and wait for it."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _serve(server: _Server) -> NoReturn:
    try:
        server.serve()
    except OSError:
        pass  # the worker was killed while it was answered
    finally:
        try:
            server.end()
        finally:
            os._exit(0)


def _copy(thing: Any) -> Any:
    """Return a copy whose attributes can be set; ``copy.copy`` would ask billiard's own ``__reduce__``."""
    made = object.__new__(type(thing))
    vars(made).update(copy.copy(vars(thing)))
    return made


def _queue(like: Any, reading: int, writing: int) -> Any:
    """Return a queue on two descriptors of a pipe."""
    made = _copy(like)
    made._reader = connection.Connection(reading, writable=False)
    made._writer = connection.Connection(writing, readable=False)
    made._poll = made._reader.poll
    return made
