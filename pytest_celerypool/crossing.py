"""Ask how long the threads that a message passes, outside of the slots, have waited for a processor."""

from __future__ import annotations

import os
import threading

from pytest_celerypool.agent.meters import ProcFile
from pytest_celerypool.waiting import Histories, Waited


class Crossing:
    """The clocks of those whom a message of one test passes: a :class:`~pytest_celerypool.waiting.WaitClocks`.

    :param main: the thread that receives messages in the worker: process id and thread id; ``None`` if it is not known
        yet which worker that will be.
    :param apart: whether tasks run in other threads than that.
    :param server: the process id of the broker's server, ``None`` if that is not known.
    :param histories: what is known of the slots.
    """

    def __init__(self, main: tuple[int, int] | None, apart: bool, server: int | None, histories: Histories) -> None:
        here = (os.getpid(), threading.get_native_id())
        self.complete, self.apart, self.histories = server is not None, apart, histories
        others = [*([] if main == here else [here]), *([] if server is None else [(server, server)])]
        self._others = [_schedstat(*thread) for thread in others]
        self._main = None if main is None else _schedstat(*main)

    def read(self) -> Waited | None:
        """Return what they have waited so far, ``None`` if the system hides it."""
        main = 0 if self._main is None else self._main.second()
        others = [each for file in self._others if (each := file.second()) is not None]
        if main is None or len(others) < len(self._others):
            return None
        return Waited(sum(others) / 1e9, main / 1e9)

    def close(self) -> None:
        """Close the files."""
        for file in (*self._others, *([self._main] if self._main else [])):
            file.close()


def _schedstat(pid: int, thread: int) -> ProcFile:
    return ProcFile(f"/proc/{pid}/task/{thread}/schedstat", contended=False)
