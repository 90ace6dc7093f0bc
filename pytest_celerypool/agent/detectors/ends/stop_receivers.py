"""A worker that was told to stop, and that a receiver of ``worker_shutdown`` or ``worker_shutting_down`` keeps."""

from __future__ import annotations

import os
import time
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.code.endless import endless
from pytest_celerypool.agent.detectors.ends.main_frames import MainFrames
from pytest_celerypool.agent.detectors.ends.shutdown import HANGS

if TYPE_CHECKING:
    from pytest_celerypool.agent.watch import Watch

_POLL_S = 0.1

#: A receiver that may return by itself is waited for so long, in seconds: the worker is killed a little later.
_PATIENCE_S = 3.0


class Receiver(NamedTuple):
    """A receiver that runs.

    :ivar signal: the name of the signal.
    :ivar frames: of it and of what it has called, the innermost first.
    """

    code: CodeType
    signal: str
    frames: list[FrameType]


class StopReceivers(Detector):
    """Looks which receiver the main thread of a worker that stops is in, and for how long."""

    kinds = (HANGS,)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._frames = MainFrames(green=watch.pool.green)
        self._signals: dict[int, str] = {}
        self._over = self._told = False

    @classmethod
    def wanted(cls, watch: Watch) -> bool:
        """Whether the worker has a process of its own."""
        return watch.launch == "subprocess"

    def remove(self) -> None:
        """End."""
        self._over = True
        super().remove()

    def stopping(self) -> None:
        """Begin to look where the main thread is."""
        from celery import signals

        if not self._told:
            self._told = True
            self._signals = {id(getattr(signals, name)): name for name in ("worker_shutting_down", "worker_shutdown")}
            originals.start_new_thread(self.watch.guarded(self, self._watch_stop), ())

    # -- in a thread of its own

    def _watch_stop(self) -> None:
        limit = self.watch.limit(HANGS.name)
        code, since = None, time.monotonic()
        while not self._over:
            originals.sleep(_POLL_S)
            found = self._running()
            if found is None or found.code is not code:
                code, since = None if found is None else found.code, time.monotonic()
                continue
            waited = time.monotonic() - since
            why = endless(found.frames[0]) if waited > limit else None
            if why is not None or waited > _PATIENCE_S:
                self._report(found, why, waited)
                return

    def _running(self) -> Receiver | None:
        for innermost in self._frames.innermost():
            inner, frame = [innermost], innermost.f_back
            while frame is not None:
                signal, code = self._signal_of(frame), inner[-1].f_code
                if signal is not None and self.watch.frames.is_user(code.co_filename):
                    return Receiver(code, signal, inner)
                inner.append(frame)
                frame = frame.f_back
        return None

    def _signal_of(self, frame: FrameType) -> str | None:
        """Return the name of the signal whose receivers a frame calls, if the worker sends it when it stops."""
        if frame.f_code.co_name != "send":
            return None
        signal: Any = frame.f_locals.get("self")
        return self._signals.get(id(signal))

    def _report(self, found: Receiver, why: str | None, waited: float) -> None:
        frames, pool = self.watch.frames, self.watch.pool.name
        code = found.code
        defined = frames.place_of(code.co_filename, code.co_firstlineno, code.co_name)
        stack = [frames.place(each) for each in found.frames if frames.is_user(each.f_code.co_filename)]
        self.watch.report(
            HANGS.name,
            None,
            f"{code.co_qualname}, a receiver of {found.signal}, "
            f"{why or 'has not returned'}: under {pool} the worker was told to stop, and waits for it "
            f"{'for ever' if why else f'since {waited:.1f} s'}",
            [*stack, f"defined at {defined}", f"process {os.getpid()} is in it for {waited:.1f} s"],
            "give what it waits for a limit, and tell every thread that it joins to end",
            key=stack[0],
        )
