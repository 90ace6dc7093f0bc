"""Know when Python collected garbage by itself: that stops whoever runs at the moment, and is no fault of its line."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run

#: Seconds: shorter collections are not noted.
_SHORTEST_S = 0.001

#: So few new objects are collected in a shorter time, as they are by most collections: those are not even measured.
_FEW = 5000

#: Collections that are remembered.
_MOST = 100

#: Python may have freed some objects between finding that there are enough to collect and doing that.
_SLACK = 20


class Collections:
    """Notes the processor time that Python needs to collect garbage because there is enough, not because it is told to.

    A collection of all generations takes as long as all objects of the process need, pytest's included where that
    is the host: 147 ms were seen there, in a task that does nothing, and 50 ms in a worker of a green pool.

    :param whose: returns the execution in whose slot Python is; what a collection takes there is added to its
        :attr:`~pytest_celerypool.agent.meters.Run.collected`.
    :param noted: called with when a collection began, in monotonic seconds, and how many seconds it took.
    """

    def __init__(self, whose: Callable[[], Run | None], noted: Callable[[float, float], None]) -> None:
        self._whose, self._noted = whose, noted
        self._began: tuple[float, float] | None = None
        #: When each began, in monotonic seconds, and the seconds of processor time that it took.
        self._seen: deque[tuple[float, float]] = deque(maxlen=_MOST)

    def install(self) -> None:
        """Begin to listen."""
        gc.callbacks.append(self._on_collection)

    def remove(self) -> None:
        """End."""
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def since(self, moment: float) -> float:
        """Return the processor time of the collections that began after `moment`; seconds, monotonic ones."""
        # Of a copy: a collection may come meanwhile, in this thread or in that of the hub.
        return sum(took for began, took in tuple(self._seen) if began >= moment)

    def _on_collection(self, phase: str, info: Mapping[str, Any]) -> None:
        if phase == "start":
            # The counts are those that made it begin: https://docs.python.org/3/library/gc.html#gc.set_threshold
            count = gc.get_count()[0]
            if info["generation"] == 0 and count < _FEW:
                return
            threshold = gc.get_threshold()[0]
            by_itself = threshold > 0 and gc.isenabled() and count >= threshold - _SLACK
            self._began = (time.monotonic(), time.thread_time()) if by_itself else None
        elif self._began is not None:
            began, used = self._began
            took = time.thread_time() - used
            if took > _SHORTEST_S:
                self._seen.append((began, took))
                run = self._whose()
                if run is not None:
                    run.collected += took
                self._noted(began, took)
            self._began = None
