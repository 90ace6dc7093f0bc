"""Fork the later children of a prefork worker in this process from a process that has no threads.

The first children of such a worker are forked before its thread exists. Later ones, which take the place of a child
that was killed, that reached a time limit, or that had run its number of tasks, or for which the pool grew, would be
forked by that thread, while others run: a lock that one of them holds at that moment stays held in the child for ever.

So one more process is forked together with the first children: a fork server. It has one thread, and the state of that
moment. It forks every later child on request. What a child has to share with its pool and what did not exist at the
server's own fork goes to it as descriptors (``SCM_RIGHTS``); the two numbers that billiard keeps for every child in
semaphores, which cannot be sent, are cells of memory that all these processes share. The server is the parent of these
children and is asked for their exit status. Once its socket ends, it kills what is left of them and ends, so that
nothing outlives a worker that was killed.

A pool that is restarted (``reload()``) begins anew: its next children come from the worker, and a server with them.

Written against billiard 4.2 and 4.3 (``popen_fork``, ``process``, ``pool``) and ``celery.concurrency.asynpool``.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
import time
import weakref
from typing import Any

from billiard import connection, get_start_method
from billiard.popen_fork import Popen

from pytest_celerypool.agent.forkserver import LOOK_S, Cell, ForkServer, ServerGoneError

logger = logging.getLogger(__name__)

#: How long a child whose pipes are closed may take until it has ended, in seconds.
_DYING_S = 0.1

#: Bytes of the memory that is shared with all children; two cells of four bytes a child.
_MEMORY = 1 << 16


class Context:
    """billiard's context, which makes an ``Event`` and a ``Value`` that can be named to another process."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.memory = memoryview(mmap.mmap(-1, _MEMORY)).cast("i")
        self._taken: weakref.WeakValueDictionary[int, Cell] = weakref.WeakValueDictionary()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def Event(self) -> Cell:  # noqa: N802 - billiard's name
        """Return what tells a child to end."""
        index = next((index for index in range(len(self.memory)) if index not in self._taken), None)
        if index is None:
            raise MemoryError(f"a pool of more than {len(self.memory) // 2} children")
        cell = self._taken[index] = Cell(self.memory, index)
        cell.value = 0
        return cell

    def Value(self, _: str) -> Cell:  # noqa: N802 - billiard's name
        """Return what counts the results that were read of a child."""
        return self.Event()


class Generations:
    """The fork servers of one pool, one after the other.

    :param pool: Celery's prefork pool, not yet started; from now on it makes its children here.
    """

    def __init__(self, pool: Any) -> None:
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        self._ending: list[ForkServer] = []
        for name in ("Pool", "BlockingPool"):
            setattr(pool, name, _served(getattr(pool, name), self))
        restart = pool.restart

        def restart_anew() -> None:
            self.end()
            restart()

        pool.restart = restart_anew

    def end(self) -> None:
        """Let the next children see the state that there is when they are forked."""
        with self._lock:
            if self._server is not None:
                self._ending.append(self._server)
                self._server = None
            self._drop_ended()

    def close(self) -> None:
        """End all servers, and with them what is left of their children."""
        self.end()
        with self._lock:
            for server in self._ending:
                server.close()
            self._ending.clear()

    def launch(self, pool: Any, process: Any) -> Any:
        """Fork a child; returns what stands for it in the pool.

        :param pool: billiard's pool, which has `process` in its list already.
        :param process: billiard's object, not yet started.
        """
        with self._lock:
            self._drop_ended()
            if self._server is not None:
                try:
                    return ServedPopen(self._server, process)
                except ServerGoneError as exc:
                    logger.warning("%s; the next children see the state of this moment", exc)
                    self._ending.append(self._server)
                    self._server = None
            popen = ChildPopen(process)
            if len(pool._pool) >= pool._processes:
                self._server = ForkServer(process, pool._ctx.memory)
            return popen

    def _drop_ended(self) -> None:
        for server in [server for server in self._ending if not server.children]:
            server.close()
            self._ending.remove(server)


def _served(base: Any, generations: Generations) -> Any:
    """Return a class of billiard's pools whose children are made by `generations`."""

    class Served(base):  # type: ignore[misc]
        """Makes its children from a process without threads."""

        _ctx: Any

        def _create_worker_process(self, i: int) -> Any:
            if get_start_method() == "fork" and not isinstance(self._ctx, Context):
                self._ctx = Context(self._ctx)
            return super()._create_worker_process(i)

        def WorkerProcess(self, worker: Any) -> Any:  # noqa: N802 - billiard's name
            process = super().WorkerProcess(worker)
            if isinstance(self._ctx, Context):
                process._Popen = lambda started: generations.launch(self, started)
            return process

    return Served


class ChildPopen(Popen):  # type: ignore[misc]
    """Stands for a child that this process has forked.

    The system closes the pipes of a process that ends a moment before it can be waited for. Celery looks when the first
    of them closes, and then after five seconds again (``AsynPool._event_process_exit``): here it is seen at once.

    :param process: billiard's object.
    """

    returncode: int | None
    sentinel: int | None

    def __init__(self, process: Any) -> None:
        self._lives_without_pipes = False
        super().__init__(process)

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit status in Python's form, ``None`` while it runs; without ``WNOHANG`` wait for it."""
        if not flag & os.WNOHANG:
            return self._wait()
        deadline = time.monotonic() + _DYING_S
        while self._look() is None and not self._lives_without_pipes and connection.wait([self.sentinel], 0):
            time.sleep(LOOK_S)
            self._lives_without_pipes = time.monotonic() > deadline  # a task has closed them, as daemons do
        return self.returncode

    def _look(self) -> int | None:
        """Return the exit status, ``None`` while it runs."""
        status: int | None = super().poll(os.WNOHANG)
        return status

    def _wait(self) -> int | None:
        """Return the exit status once it has ended."""
        status: int | None = super().poll(0)
        return status


class ServedPopen(ChildPopen):
    """Stands for a child that a fork server has forked.

    :param server: forks it.
    :param process: billiard's object.
    :raises ServerGoneError: it cannot.
    :raises OSError: the system refuses the fork.
    """

    def __init__(self, server: ForkServer, process: Any) -> None:
        self._server = server
        super().__init__(process)

    def _launch(self, process: Any) -> None:
        reading, writing = os.pipe()
        try:
            self.pid = self._server.fork(process, writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.sentinel = reading

    def _look(self) -> int | None:
        if self.returncode is None:
            try:
                self.returncode = self._server.status(self.pid)
            except ServerGoneError:
                if connection.wait([self.sentinel], 0):
                    self.returncode = -signal.SIGKILL  # as its server
        return self.returncode

    def _wait(self) -> int | None:
        while self._look() is None:
            connection.wait([self.sentinel], _DYING_S)
            time.sleep(LOOK_S)
        return self.returncode
