"""Random numbers that every child draws alike: generators that were made before the fork."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.holders import Reached, made_at, uses, walk
from pytest_celerypool.agent.detectors.notes import Notes
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

#: So many times 624 numbers may be drawn in one task, and it is still seen that they come from the state of the fork.
_TWISTS = 50

_WORDS = 624


class Stream:
    """A generator of the user's as it was at the fork.

    :ivar state: the state, comparable.
    :ivar first: the next three values of it, as text.
    :ivar name: the same in every process that has this state.
    """

    def __init__(self, reached: Reached) -> None:
        self.reached = reached
        self.state = self.now()
        self.first = self._first()
        self.name = hashlib.sha256(repr(self.state).encode()).hexdigest()[:16]

    def now(self) -> Any:
        """Return the state at this moment."""
        raise NotImplementedError

    def _first(self) -> str:
        raise NotImplementedError

    def was_drawn(self) -> bool:
        """Whether the state at this moment comes from that at the fork by drawing, and not by a new seed."""
        raise NotImplementedError


class PythonStream(Stream):
    """``random.Random``."""

    def now(self) -> Any:
        """Return the state at this moment."""
        return random.Random.getstate(self.reached.value)

    def _copy(self) -> random.Random:
        copy = random.Random()
        copy.setstate(self.state)
        return copy

    def _first(self) -> str:
        copy = self._copy()
        return ", ".join(f"{copy.random():.6f}" for _ in range(3))

    def was_drawn(self) -> bool:
        """Whether numbers were drawn from the state of the fork."""
        now = self.now()
        if now == self.state:
            return False
        copy = self._copy()
        for _ in range(_TWISTS):
            words = copy.getstate()[1]
            if words[:-1] == now[1][:-1]:
                return True
            copy.getrandbits(32 * (_WORDS - words[-1] + 1))
        return False


class NumpyStream(Stream):
    """numpy's ``RandomState``, the one behind ``numpy.random`` included."""

    def now(self) -> Any:
        """Return the state at this moment."""
        state = self.reached.value.get_state(legacy=True)
        return (state[0], state[1].tobytes(), *state[2:])

    def _copy(self) -> Any:
        numpy: Any = sys.modules["numpy"]
        copy = numpy.random.RandomState()
        copy.set_state((self.state[0], numpy.frombuffer(self.state[1], dtype=numpy.uint32), *self.state[2:]))
        return copy

    def _first(self) -> str:
        copy = self._copy()
        return ", ".join(f"{copy.random_sample():.6f}" for _ in range(3))

    def was_drawn(self) -> bool:
        """Whether numbers were drawn from the state of the fork."""
        now = self.now()
        if now == self.state:
            return False
        copy = self._copy()
        for _ in range(_TWISTS):
            state = copy.get_state(legacy=True)
            if state[1].tobytes() == now[1]:
                return True
            copy.randint(0, 1 << 32, size=_WORDS - state[2] + 1, dtype="uint32")
        return False


class NumpyGenerator(Stream):
    """numpy's ``Generator``, of a kind whose state says which stream it is."""

    def now(self) -> Any:
        """Return the state at this moment."""
        return repr(self.reached.value.bit_generator.state)

    def _first(self) -> str:
        import copy

        twin = copy.deepcopy(self.reached.value)
        return ", ".join(f"{twin.random():.6f}" for _ in range(3))

    def was_drawn(self) -> bool:
        """Whether the stream is the same and its position another."""
        now = self.now()
        return now != self.state and _increment(now) is not None and _increment(now) == _increment(self.state)


def _increment(state: str) -> str | None:
    _, found, rest = state.partition("'inc': ")
    return rest.partition("}")[0] if found else None


class EqualRandom(Detector):
    """Sees two children whose tasks have drawn from one and the same state.

    Both begin with the state that the parent had. Each notes that it has drawn; whoever was not the first finds that.
    """

    kinds: ClassVar[Sequence[Kind]] = (
        Kind("equal-random", "fail", "tasks in two children drew the same random numbers"),
    )

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._streams: list[Stream] = []
        self._notes = Notes(watch.folder, "random-streams")
        #: By stream the process and the task that were the first to draw.
        self._first: dict[str, tuple[int, str]] = {}

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def forked(self) -> None:
        """Look what generators the user's modules hold."""
        self._notes.forked()
        # billiard seeds the module random's own generator anew in each child, and not those of others.
        own = getattr(random, "_inst", None)
        self._streams = [
            stream
            for reached in walk(self.watch.frames, _is_generator)
            if reached.value is not own and (stream := _stream(reached)) is not None
        ]
        numpy: Any = sys.modules.get("numpy.random.mtrand")
        if numpy is not None and not any(stream.reached.value is numpy._rand for stream in self._streams):
            self._streams.append(NumpyStream(Reached(numpy._rand, numpy, "numpy.random", "numpy.random", None, ())))
        self._rest_without_streams()

    def _rest_without_streams(self) -> None:
        if not self._streams:
            self.rest("started", "ended")

    def started(self, run: Run) -> None:
        """A stream that was seeded anew since the fork is the child's own."""
        if "equal-random" not in run.marks:
            run.marks["equal-random"] = True
            self._streams = [stream for stream in self._streams if stream.now() == stream.state]

    def ended(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look which streams the task has drawn from."""
        for stream in list(self._streams):
            if stream.now() == stream.state:
                continue
            self._streams.remove(stream)
            if stream.was_drawn():
                self._drew(run, stream)
        self._rest_without_streams()

    def _drew(self, run: Run, stream: Stream) -> None:
        self._notes.add([[stream.name, os.getpid(), run.id]])
        for name, *drew in self._notes.news():
            self._first.setdefault(name, tuple(drew))
        pid, task_id = self._first[stream.name]
        if pid != os.getpid():
            self._report(run, stream, pid, task_id)

    def _report(self, run: Run, stream: Stream, pid: int, task_id: str) -> None:
        frames = self.watch.frames
        reached = stream.reached
        used = uses(frames, reached, getattr(run.task, "run", None)) if hasattr(reached.module, "__file__") else []
        made = made_at(frames, reached)
        self.watch.report(
            "equal-random",
            run,
            f"tasks in the children {pid} and {os.getpid()} drew from {reached.path} the same random numbers: it got "
            "its state before the fork, so under prefork every child begins with the same ones",
            [
                *([*used, *made] or ["(no line of the task's own mentions it)"]),
                f"the first values in both: {stream.first}",
                f"drawn by {task_id} in child {pid} and by {run.id} in child {os.getpid()}",
            ],
            "make or seed the generator in each child: on first use, or in a receiver of worker_process_init",
            key=reached.path,
        )


def _is_generator(value: Any) -> bool:
    cls = type(value)
    if issubclass(cls, random.Random):
        return not issubclass(cls, random.SystemRandom)
    return f"{cls.__module__}.".startswith("numpy.random.") and cls.__name__ in ("RandomState", "Generator")


def _stream(reached: Reached) -> Stream | None:
    if isinstance(reached.value, random.Random):
        return PythonStream(reached)
    if type(reached.value).__name__ == "RandomState":
        return NumpyStream(reached)
    return NumpyGenerator(reached)
