"""Timeouts of gevent or eventlet in a pool whose hub never runs: the time passes, and nothing is raised.

``gevent.Timeout`` and ``eventlet.Timeout`` are timers of the hub of their thread, and that looks at them while the
thread waits in a way that the library knows. Under their own pool every wait is one; elsewhere almost none is.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from pytest_celerypool.agent.detectors import Detector, Kind
from pytest_celerypool.agent.watch import Watch

_MARK = "foreign-timeouts"

#: By library the module of its class ``Timeout``, and the methods that end one.
_MODULES = {"gevent": ("gevent.timeout", ("close", "cancel")), "eventlet": ("eventlet.timeout", ("cancel",))}

#: Seconds that a timeout must be late by: a hub that runs may come to it a little later than asked for.
_LATE_S = 0.1


class ForeignTimeouts(Detector):
    """Looks at timeouts of a library that is not the pool's when they end."""

    kinds = (Kind("pool-bound", "fail", "code that works under one pool only"),)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._foreign = [library for library in _MODULES if library != watch.pool.name]

    def imported(self) -> None:
        """Begin to look at those of a library once it is there."""
        for library in list(self._foreign):
            module, ends = _MODULES[library]
            cls = getattr(sys.modules.get(module), "Timeout", None)
            if cls is None:
                continue
            self._foreign.remove(library)
            self.after(cls, "start", self._started, in_task=True)
            for name in ends:
                self.before(cls, name, lambda timeout, library=library: self._ends(timeout, library), in_task=True)

    def _started(self, _: Any, timeout: Any) -> None:
        run, frame = self.watch.current(), self.watch.frames.user_frame(sys._getframe())
        if run is not None and frame is not None and timeout.pending:
            # It is kept, so that its identity stays its own.
            begun = timeout, time.monotonic(), self.watch.frames.stack(frame, 4)
            run.marks.setdefault(_MARK, {})[id(timeout)] = begun

    def _ends(self, timeout: Any, library: str) -> None:
        run = self.watch.current()
        begun = None if run is None else run.marks.get(_MARK, {}).pop(id(timeout), None)
        if begun is None or not timeout.pending:
            return
        _, since, stack = begun
        lasted = time.monotonic() - since
        if lasted < timeout.seconds + _LATE_S:
            return
        self.watch.report(
            "pool-bound",
            run,
            f"{library}'s Timeout of {timeout.seconds:g} s was over after {lasted:.2f} s and nothing was raised: under "
            f"{self.watch.pool.name} {library}'s hub gets no time to look at it, so the task waits as long as it likes",
            [*stack, f"it had still not come when it was ended, {lasted:.2f} s after it began"],
            "give the call that waits a timeout of its own (requests.get(..., timeout=...), socket.settimeout), or run "
            f"these tasks under {library} only",
            key=stack[0],
        )
