"""A thread of the system in which a detector looks at tasks again and again as long as they overlap."""

from __future__ import annotations

import re
from collections.abc import Callable

from pytest_celerypool.agent import originals
from pytest_celerypool.agent.detectors import Detector
from pytest_celerypool.agent.detectors.code.standing import native_starter
from pytest_celerypool.agent.detectors.holders import mentions


class Lookout:
    """Looks for one detector; what raises switches that off.

    :param look: is called in the thread; returns the seconds until it is to be called again, ``None`` to end.
    :param pattern: what the user's modules must mention. If they do not, the detector is not called for tasks any more.
    :ivar looking: whether the thread runs.
    """

    def __init__(
        self, detector: Detector, look: Callable[[], float | None], pattern: re.Pattern[str] | None = None
    ) -> None:
        self._detector = detector
        self._look = look
        self._pattern = pattern
        self.looking = False

    def begin(self, pause: float) -> None:
        """Look from `pause` seconds on, unless it does already."""
        if not self.looking:
            self.looking = True
            native_starter()(self._run, (pause,))

    def _run(self, pause: float | None) -> None:
        try:
            if self._pattern is not None and not mentions(self._detector.watch.frames, self._pattern):
                self._detector.rest("started")
                return
            self._pattern = None
            while pause is not None and self._detector.active:
                originals.sleep(pause)
                pause = self._look()
        except Exception as exc:  # noqa: BLE001 - a detector spoils nothing
            self._detector.watch.switch_off(self._detector, exc)
        finally:
            self.looking = False
