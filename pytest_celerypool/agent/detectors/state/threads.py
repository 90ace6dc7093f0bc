"""Exceptions that tell that state belongs to the main thread, or to a thread that greenlets share.

Python lets only the main thread set handlers of signals, asyncio makes a current loop by itself only there, and keeps
the loop that runs for the thread. What fails for that reason succeeds under another pool.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.state.changes import CHANGED, LEFT, name_of
from pytest_celerypool.agent.frames import chain, message_of
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

MAIN = Kind("main-thread-only", "fail", "a task needs the main thread, and its slot is another one")


class Meaning(NamedTuple):
    """What an exception means.

    :ivar where: whether that is so under the pool of a worker.
    """

    kind: Kind
    exception: type[Exception] | tuple[type[Exception], ...]
    text: re.Pattern[str]
    where: Callable[[Watch], bool]
    message: str
    remedy: str


def _in_other_threads(watch: Watch) -> bool:
    """Whether tasks run outside of the main thread, or of what asyncio takes for it, whatever the launch."""
    return not watch.pool.forks and watch.pool.name != "solo"


def _green(watch: Watch) -> bool:
    return watch.pool.green


def _in_main_thread(watch: Watch) -> bool:
    return not _in_other_threads(watch)


_ASYNCIO = "Use asyncio.run(...) in the task: it makes a loop for itself."

MEANINGS = (
    Meaning(
        MAIN,
        (ValueError, RuntimeError),  # the second from asyncio's add_signal_handler()
        re.compile(r"signal only works in main thread|set_wakeup_fd only works in main thread"),
        _in_other_threads,
        "a handler of a signal can be set in the main thread only, and {pool} runs this task in another one",
        "Set handlers when the worker starts, or use what needs no signal: a deadline, the timeout of the library.",
    ),
    Meaning(
        MAIN,
        RuntimeError,
        re.compile(r"There is no current event loop"),
        _in_other_threads,
        "asyncio makes a current event loop by itself in the main thread only, and {pool} runs this task elsewhere",
        _ASYNCIO,
    ),
    Meaning(
        LEFT,
        RuntimeError,
        re.compile(r"There is no current event loop in thread 'MainThread'"),
        _in_main_thread,
        "an earlier task in this slot has set asyncio's current event loop to none, as asyncio.run() does at its end, "
        "and under {pool} the slot is the same thread for all of them",
        _ASYNCIO,
    ),
    Meaning(
        MAIN,
        TypeError,
        re.compile(r"child watchers are only available on the default loop"),
        _in_other_threads,
        "gevent waits for programs in the main thread only, and {pool} runs this task in another one",
        "Use the module subprocess, which gevent patches where it is in charge.",
    ),
    Meaning(
        CHANGED,
        RuntimeError,
        re.compile(r"^input\(\) already active$"),
        lambda watch: watch.pool.overlaps,
        "fileinput.input() reads for the whole process, and under {pool} another task is reading by it",
        "Make a reader of the task's own: fileinput.FileInput(files).",
    ),
    Meaning(
        CHANGED,
        Exception,
        re.compile(
            r"cannot be called from a running event loop|while another loop is running|event loop is already running|"
            r"cannot use AsyncToSync in the same thread as an async event loop|cannot call this from an async context|"
            r"^Already running \w+ in this thread$"
        ),
        _green,
        "asyncio keeps the loop that runs for the whole thread, and under {pool} all tasks share one: a second task "
        "can run none while the first one waits",
        "Give coroutines to one loop in a real thread (asyncio.run_coroutine_threadsafe), or run them under another "
        "pool.",
    ),
)


class Threads(Detector):
    """Explains what a task failed with."""

    kinds = (MAIN, CHANGED, LEFT)

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look at the exception of a task that failed."""
        if exc is None:
            return
        for one in chain(exc):
            for meaning in MEANINGS:
                if (
                    isinstance(one, meaning.exception)
                    and meaning.where(self.watch)
                    and meaning.text.search(message_of(one))
                ):
                    self._report(run, one, meaning)
                    return

    def _report(self, run: Run, exc: BaseException, meaning: Meaning) -> None:
        places = self.watch.frames.raised_places(exc)
        others = self.watch.running() if meaning.kind is CHANGED else []
        if not places or (meaning.kind is CHANGED and not others):
            # Nobody else runs a loop: the task has called asyncio.run() within its own.
            return
        self.watch.report(
            meaning.kind.name,
            run,
            meaning.message.format(pool=self.watch.pool.name),
            [
                *places[:4],
                f"{type(exc).__name__}: {exc}",
                f"in {name_of(run)}",
                *(f"{name_of(other)} runs beside it" for other in others[:4]),
            ],
            meaning.remedy,
            others=others,
        )
