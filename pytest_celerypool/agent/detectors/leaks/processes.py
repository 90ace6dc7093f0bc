"""Child processes that tasks start and nobody waits for."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pytest_celerypool.agent.detectors.leaks.remains import Left, Remains
from pytest_celerypool.trace import Kind

State = Literal["runs", "ended", "gone"]


def state_of(pid: int) -> State:
    """Return what a child of this process does; ``"ended"`` if nobody has waited for it, without doing so."""
    try:
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:  # waited for, or another process's child
        return "gone"
    return "runs" if status is None else "ended"


class Processes(Remains):
    """Sees children that were started and not waited for.

    A program may start a process in one task and wait for it in another. What is left is therefore judged when the
    worker, or the child of prefork, ends.
    """

    kinds: ClassVar[Sequence[Kind]] = (
        Kind(
            "leaked-process",
            "fail",
            "each execution of a task leaves a child process that nobody waits for",
            3,
            "executions",
        ),
    )

    def install(self) -> None:
        """Hear of every process."""
        if hasattr(os, "waitid"):  # macOS has none
            self.after(subprocess.Popen, "__init__", self._opened)
            self.after(os, "fork", self._forked)
            for name in ("posix_spawn", "posix_spawnp"):
                self.after(os, name, self._spawned, in_task=True)

    def _opened(self, _: None, popen: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
        if self.watch.current() is not None:
            self._note(popen.pid, f"subprocess {_short(popen.args)}, pid {popen.pid}", popen)

    def _forked(self, pid: int) -> None:
        # The child goes on in the task's own frames: what it starts is not noted.
        if pid and self.watch.current() is not None:
            self._note(pid, f"forked process {pid}", None)

    def _spawned(self, pid: int, path: Any, *_: Any, **__: Any) -> None:
        self._note(pid, f"spawned {_short(path)}, pid {pid}", None)

    def _note(self, pid: int, text: str, popen: Any) -> None:
        owner = os.getpid()
        session = os.getsid(0)

        def there() -> bool:
            if os.getpid() != owner or state_of(pid) == "gone":
                return False
            try:
                return os.getsid(pid) == session  # a session of its own: it is meant to outlive the worker
            except OSError:
                return True  # ended already

        self.made("leaked-process", sys._getframe(), text, there, weakref.ref(popen) if popen is not None else _nothing)

    def needed(self, kind: str, task: str, left: list[Left]) -> int:
        """Return how many must be left: fewer where nobody has any of them in hand, to use it again."""
        if all(each.made.get is not _nothing and each.made.get() is None for each in left):
            return int(self.watch.limit(kind))
        return super().needed(kind, task, left)

    def grows(self, kind: str, task: str, left: list[Left], *, last: bool) -> tuple[str, list[str], str] | None:
        """Only the end shows that nobody waits."""
        if not last:
            return None
        states = [state_of(int(each.made.text.rsplit(" ", 1)[1])) for each in left]
        ended, running = states.count("ended"), states.count("runs")
        what = " and ".join(
            filter(
                None,
                (
                    f"{running} still running" if running else "",
                    f"{ended} ended and never waited for (zombies)" if ended else "",
                ),
            )
        )
        return (
            f"each of {len({each.run for each in left})} executions left a child process behind that nobody waits for, "
            f"{what} when its worker process stopped: they pile up until the system refuses to start another, "
            "and nobody learns whether they failed",
            [f"left: {each.made.text}: {state}" for each, state in list(zip(left, states, strict=True))[:6]],
            "wait for the process in the task (subprocess.run, communicate, wait, a with block) and end it if it is no "
            "longer needed; start_new_session=True says that it is meant to outlive the worker",
        )


def _nothing() -> None:
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
