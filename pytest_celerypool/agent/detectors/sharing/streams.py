"""One connection or pipe on which two tasks await an answer at once: each may read that of the other.

Greenlets get an exception for it from the library of the pool, and children of prefork are told of as they share what
is from before the fork. Nothing tells threads. What a task reads from is seen from where it stands in the source;
nothing of the user's is watched.
"""

from __future__ import annotations

import ast
import io
import os
import re
import socket
import stat
import time
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.detectors.code.places import UNKNOWN, Scope, resolve
from pytest_celerypool.agent.detectors.code.standing import Reader, frames_of
from pytest_celerypool.agent.detectors.sharing.lookout import Lookout
from pytest_celerypool.agent.detectors.state.changes import name_of

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

SHARED_STREAM = Kind("shared-stream", "fail", "two tasks await an answer on one connection or pipe")

#: Seconds between two looks, and between the two that find a task at the same place; with very many tasks the first is
#: more: so many times what a look takes.
_POLL_S, _AGAIN_S, _POLLS = 0.05, 0.01, 50

#: Methods by which an answer is read, and a question is written.
_READS = {"recv", "recv_into", "recvmsg", "read", "read1", "readinto", "readline", "readlines"}
_WRITES = {"send", "sendall", "sendmsg", "write", "writelines"}

#: What a project has that makes such streams.
_MAKES = re.compile(r"\bsocket\b|Popen|\bpipe\(|makefile")


class Reading(NamedTuple):
    """A task that stands where it reads from a stream.

    :ivar text: how the source names the stream.
    :ivar at: tells the point where it stands from others.
    """

    run: Run
    stream: Any
    text: str
    places: tuple[str, ...]
    at: tuple[int, int]


class Streams(Detector):
    """Looks now and then at threads that overlap, if the project has streams."""

    kinds = (SHARED_STREAM,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._reader = Reader(watch.frames)
        self._lookout = Lookout(self, self._look_on, _MAKES)
        self._told: set[str] = set()

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Only where tasks are threads of one process."""
        return watch.pool.overlaps and not watch.pool.green

    def started(self, run: Run) -> None:
        """A task begins: look from now on, if it is not the only one."""
        if not self._lookout.looking and len(self.watch.recorder.running) > 1:
            self._lookout.begin(0.0)

    def _look_on(self) -> float | None:
        """Look as long as tasks overlap; returns the seconds until the next look."""
        began = time.monotonic()
        self._look()
        pause = max(_POLL_S, _POLLS * (time.monotonic() - began - _AGAIN_S))
        return pause if len(self.watch.recorder.running) > 1 else None

    def _look(self) -> None:
        before = {id(each.run): each for each in self._readings()}
        if len({id(each.stream) for each in before.values()}) == len(before):
            return
        originals.sleep(_AGAIN_S)
        still = [each for each in self._readings() if id(each.run) in before and each.at == before[id(each.run)].at]
        for number, each in enumerate(still):
            other = next((one for one in still[number + 1 :] if one.stream is each.stream), None)
            if other is not None:
                self._report(each, other)

    def _readings(self) -> list[Reading]:
        standing = list(frames_of(self.watch.recorder.running, self.watch.running()))
        found = (self._reading(run, frame) for run, frame in standing)
        return [each for each in found if each is not None]

    def _reading(self, run: Run, innermost: types.FrameType) -> Reading | None:
        frames = self._reader.user_frames(innermost)
        nodes = [self._reader.sources.node(frame.f_code) for frame in frames]
        if not any(_calls(node, _WRITES) for node in nodes):  # who only reads may take what comes, whoever it is for
            return None
        # A comprehension has a frame of its own, and reads what its function names.
        known = [(frame, node) for frame, node in zip(frames, nodes, strict=True) if node is not None]
        if not known:
            return None
        frame, node = known[-1]
        scope = Scope(frame.f_locals, frame.f_globals)
        for owner in _read_at(node, frame.f_lineno):
            stream = resolve(owner, scope)
            if stream is not UNKNOWN and is_stream(stream):
                places = tuple(self._reader.frames.place(each) for each in reversed(frames))
                return Reading(run, stream, ast.unparse(owner), places, (id(innermost), innermost.f_lasti))
        return None

    def _report(self, one: Reading, other: Reading) -> None:
        if one.places[0] in self._told:
            return
        self._told.add(one.places[0])
        pool = self.watch.pool.name
        self.watch.report(
            SHARED_STREAM.name,
            one.run,
            f"it awaits an answer on {one.text} while {name_of(other.run)} awaits one on the same: under {pool} the "
            "tasks of a process share it, so each may get what the other has asked for",
            [
                *one.places,
                f"{name_of(other.run)} reads it at {other.places[0]}",
                f"{type(one.stream).__name__} with the descriptor {one.stream.fileno()}, in process {os.getpid()}",
            ],
            "have one for each thread (threading.local), take it from a pool, or keep a lock from the question to its "
            "answer",
            key=one.places[0],
            others=[other.run],
        )


def is_stream(value: Any) -> bool:
    """Whether something is an open connection or pipe."""
    if not issubclass(type(value), (socket.socket, io.IOBase)):  # isinstance() would ask a proxy for its object
        return False
    try:
        mode = os.fstat(value.fileno()).st_mode
    except (OSError, ValueError):  # closed, or in memory
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)


def _calls(function: ast.AST | None, names: set[str]) -> bool:
    nodes = ast.walk(function) if function is not None else ()
    return any(isinstance(node, ast.Attribute) and node.attr in names for node in nodes)


def _read_at(function: ast.AST, line: int) -> Iterator[ast.expr]:
    """Yield what a line of a function reads from by a method, or goes through in a loop.

    Nothing, if the line may also be where a lock is awaited.
    """
    nodes = list(ast.walk(function))
    if any(_may_wait_for_a_lock(node, line) for node in nodes):
        return
    for node in nodes:
        if isinstance(node, ast.For) and node.iter.lineno <= line <= (node.iter.end_lineno or 0):
            yield node.iter
        if isinstance(node, ast.Attribute) and node.attr in _READS and node.lineno <= line <= (node.end_lineno or 0):
            yield node.value


def _may_wait_for_a_lock(node: ast.AST, line: int) -> bool:
    if isinstance(node, ast.With):
        return node.lineno == line or node.lineno <= line < node.body[0].lineno
    return isinstance(node, ast.Attribute) and node.attr == "acquire" and node.lineno <= line <= (node.end_lineno or 0)
