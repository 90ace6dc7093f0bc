"""What the agent writes and how it is read: its records, and what they say of executions, findings and waits.

A record is one line of the worker's trace file, or of the tape beside it (:mod:`pytest_celerypool.agent.tape`): a JSON
object, or :data:`PACKED`. ``e`` is its kind, ``t`` monotonic seconds:

===============  ====================================================================================
``boot``         the agent is installed: ``pid``
``ready``        the worker consumes: ``hostname pool concurrency tasks queues bindings unchanging read write backend
                 prefix``
``pub``          about to be published: ``id task parent retries eta queue``, ``route`` where it is not sent to that
                 queue, and ``through`` where an exchange hands it on; ``unpub`` takes it back
``recv``         received by the worker: ``id task retries eta``
``start``        begins in a slot: ``id task retries args kwargs pid slot mem delayed``
``end``          leaves the slot: ``id task retries pid slot state exc cpu wait delay stored mem hold kept``, and where
                 garbage was collected in it ``collected swept``
``settle``       the worker ended it without the slot: ``id task state exc`` (revoked, lost, timed out)
``astray``       an exception goes on through Celery itself, which may end the worker: ``id``
``unstorable``   neither its result nor its failure can be stored, by whatever process: ``id``
``unknown``      not registered: ``id task``
``finding``      a detector saw a hazard: ``kind task id pid message evidence remedy key others``
``wait``         a task begins to wait for others in its slot: ``id task on evidence``; ``waited`` ends it: ``id``
``command``      a remote control command that may have changed the worker: ``name arguments``; ``sent`` announces one
                 that a task sends
``agent-error``  the agent itself failed: ``where error``
``gc``           a process has collected its garbage by itself: ``took pid``
``collected``    a process has collected its garbage, as it was asked to: ``pid``
===============  ====================================================================================
"""

from __future__ import annotations

import binascii
import json
import marshal
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

#: The state of a span whose slot was left by ``SystemExit`` and the like, or died, and of which the worker
#: told nobody: not one of Celery's states, since Celery knows none.
LOST = "LOST"


@dataclass
class Span:
    """The record of one execution of one task in one slot.

    Times are monotonic seconds, durations seconds, sizes bytes; ``None`` where the thing did not happen or the
    system does not tell. ``args`` and ``kwargs`` are the values where their text says them, else that text.
    ``exception`` is the text of what was raised, ``error`` the same as plain data. ``worker`` is the worker's name in
    its cluster, or its node name where it is the test's only one.

    Other processes of the machine cost a task time in which somebody waits for a processor: ``waited`` is how long the
    task itself did; ``slot_waited`` how long all did whom it may have had to wait for in its slot, itself included (the
    hub; in a thread, who has the interpreter's lock); ``queue_waited`` how long at most all did that it passed, from
    its publication to its start; ``publisher_waited`` how long the test and the broker's server had, ever, when it was
    published: of two executions the difference says by how much the later one may have been published too late.

    ``stored`` is the part of the runtime in which the result was stored, without ``waited``; ``hold`` the longest that
    the task kept its hub, ``kept`` how long it did in all (green pools).

    Python collects garbage when there is enough of it, in whatever task that is: ``collecting`` is how long it did in
    this process meanwhile, ``collected`` what of that was in this slot and so is in ``cpu``, ``swept`` by how much
    ``hold`` would have been shorter without. They are ``None`` if no such collection took a millisecond or more.
    """

    id: str
    task: str
    retries: int
    test: str
    pool: str
    worker: str = ""
    args: Any = ()
    kwargs: Any = None
    slot: str | None = None
    pid: int | None = None
    published: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    state: str | None = None
    cpu: float | None = None
    hold: float | None = None
    kept: float | None = None
    waited: float | None = None
    slot_waited: float | None = None
    queue_waited: float | None = None
    publisher_waited: float | None = None
    stored: float | None = None
    collecting: float | None = None
    collected: float | None = None
    swept: float | None = None
    memory_before: int | None = None
    memory_after: int | None = None
    exception: str | None = None
    error: dict[str, Any] | None = None

    @property
    def runtime(self) -> float | None:
        """Seconds from start to end in the slot."""
        return _difference(self.started, self.ended)

    @property
    def queued(self) -> float | None:
        """Seconds from published to started."""
        return _difference(self.published, self.started)

    @property
    def total(self) -> float | None:
        """Seconds from published to ended."""
        return _difference(self.published, self.ended)


#: What the name of a tape has beyond that of its trace file.
TAPE = ".tape"

Policy = Literal["fail", "warn", "off"]


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    :ivar name: as users type it.
    :ivar policy: what a finding of this kind does to its test unless the user says otherwise: ``"fail"`` where it is
        sure to hurt, ``"warn"`` where an honest program may do it.
    :ivar text: what it is, in a few words.
    :ivar limit: the threshold, for a kind that has one.
    :ivar unit: of the threshold: ``"s"``, ``"bytes"``, or what is counted.
    """

    name: str
    policy: Policy
    text: str
    limit: float | None = None
    unit: str = ""


@dataclass
class Finding:
    """A hazard that the agent saw.

    :ivar kind: the name of its :class:`Kind`.
    :ivar task: the name of the task that did it, ``"?"`` if that is not known.
    :ivar pool: the name of the pool.
    :ivar message: one sentence: what happened, and what it does to the user under this pool.
    :ivar evidence: lines of text: the user's frame and what was measured.
    :ivar remedy: what to do.
    :ivar tests: the node ids of the tests it struck.
    :ivar key: tells the findings of one kind and task apart.
    :ivar ids: the ids of the tasks that it struck.
    """

    kind: str
    task: str
    pool: str
    message: str
    evidence: str
    remedy: str
    tests: list[str] = field(default_factory=list)
    key: str = ""
    ids: list[str] = field(default_factory=list)

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What findings that are one and the same have in common."""
        return (self.kind, self.task, self.pool, self.key)

    @classmethod
    def of(cls, record: Mapping[str, Any], pool: str) -> Finding:
        """Return the finding of a record."""
        return cls(
            kind=record["kind"],
            task=record["task"] or "?",
            pool=pool,
            message=record["message"],
            evidence="\n".join(record["evidence"]),
            remedy=record["remedy"],
            key=record["key"],
            ids=[each for each in (record["id"], *record["others"]) if each is not None],
        )


@dataclass
class Command:
    """A remote control command that a test sent.

    :ivar ids: the tasks that it is about.
    :ivar terminate: whether it ends a task that runs.
    :ivar asked: monotonic seconds when it was sent, :attr:`answered` when the call came back.
    :ivar unheard: whether it asked for an answer and there was none.
    """

    name: str
    ids: tuple[str, ...]
    terminate: bool
    asked: float
    answered: float
    unheard: bool


@dataclass
class Wait:
    """A task's wait for other tasks, in its slot.

    :ivar id: the task's.
    :ivar on: the ids of those that it waits for.
    :ivar evidence: where: lines of text.
    :ivar began: monotonic seconds, :attr:`ended` likewise, ``None`` while it goes on.
    """

    id: str
    task: str
    on: tuple[str, ...]
    evidence: tuple[str, ...]
    began: float
    ended: float | None = None


def _difference(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else end - begin


def in_order(spans: Iterable[Span]) -> list[Span]:
    """Return spans in the order in which they began (or, never begun, ended)."""
    return sorted(spans, key=lambda span: span.started if span.started is not None else span.ended or 0.0)


#: The kinds of records that say something of the worker itself.
REMARKS = frozenset({"finding", "agent-error", "command", "sent"})


class TraceReader:
    """Reads a trace from where it stopped last: the file at `path`, and the tape beside it if there is one."""

    def __init__(self, path: Path) -> None:
        # The tape first: what a process writes to its file is what came after it, or has nothing to do with it.
        self._sources = [_Lines(path.with_name(path.name + TAPE)), _Lines(path)]

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the records that were written since the last call; none while there is no file yet."""
        for source in self._sources:
            for line in source.read():
                record = _decode(line)
                if record is not None:
                    yield record

    def remarks(self) -> list[dict[str, Any]]:
        """Return of what was written since the last call the records that matter although no test has the worker."""
        return [record for record in self.read() if record["e"] in REMARKS]

    def close(self) -> None:
        """Close the files."""
        for source in self._sources:
            source.close()


class _Lines:
    """The lines of a file that grows, each once; zeros are where it was not written to yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._offset = 0
        self._rest = b""

    def read(self) -> Iterator[bytes]:
        """Yield the lines that were completed since the last call, but for empty ones."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
        while data := os.pread(self._fd, 1 << 16, self._offset).partition(b"\0")[0]:
            self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from filter(None, lines)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


#: The fields of the kinds that every task has, in the order of their values; the last ones may be missing. Such a
#: record is the tuple of its values, by ``marshal`` and in base64, which takes half the time that JSON would; the
#: worker and its reader are one Python. The kind comes last, so that half a record with another one behind it is none.
PACKED = {
    "recv": ("t", "id", "task", "retries", "eta"),
    "start": ("t", "id", "task", "retries", "pid", "slot", "args", "kwargs", "mem", "delayed"),
    "end": (
        *("t", "id", "task", "retries", "pid", "slot", "state", "exc", "cpu", "wait", "delay", "stored", "mem"),
        *("hold", "kept", "collected", "swept"),
    ),
}

#: The version of the format of ``marshal``: before 3 it does not look for objects that it has written already.
MARSHAL = 2


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        if line.startswith(b"{"):
            record = json.loads(line)
            return record if isinstance(record, dict) else None
        data = binascii.a2b_base64(line)
        packed = marshal.loads(data)
        if len(marshal.dumps(packed, MARSHAL)) != len(data):  # it takes no notice of what comes behind
            return None
        *values, kind = packed
        return {"e": kind, **dict(zip(PACKED[kind], values, strict=False))}
    except (ValueError, TypeError, KeyError, EOFError):  # a process was killed in the middle of a write
        return None
