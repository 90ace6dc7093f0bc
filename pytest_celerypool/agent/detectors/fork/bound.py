"""Libraries that notice that they run in a forked child, and refuse."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pytest_celerypool.agent import family
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.frames import message_of
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch

_REFUSALS = re.compile(
    r"forked (sub)?process|(after|before|since|across) (a |the )?fork\b|fork[- ]safe|forked child|post-fork"
    r"|can only (join|test) a child process"
    r"|Acquire on closed pool"  # kombu closes its pools in a child
    r"|(created|opened|started|made) in (a different|another) process",
    re.IGNORECASE,
)


BOUND = Kind("fork-bound", "fail", "a library refuses to work in a forked child, and the task failed by that")


class Bound(Detector):
    """Sees libraries that notice the fork and refuse."""

    kinds: ClassVar[Sequence[Kind]] = (BOUND,)

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the pool forks."""
        return watch.pool.forks

    def failed(self, run: Run, state: str | None, exc: BaseException | None) -> None:
        """Look at what the task failed with."""
        if exc is None or state != "FAILURE":
            return
        text = message_of(exc)
        if _REFUSALS.search(text) is None:
            return
        stack = self.watch.frames.raised_places(exc)
        self.watch.report(
            BOUND.name,
            run,
            f"the task failed because it ran in a forked child of prefork: {type(exc).__name__}: {text[:200]}",
            [
                *(stack[:1] or [self.watch.frames.place(None)]),
                *(f"  called from {line}" for line in stack[1:]),
                f"child {os.getpid()} of {family.main_pid()}",
            ],
            "make what the library needs in each child (on first use, or in a receiver of worker_process_init), or run "
            "these tasks under a pool that does not fork",
        )
