"""Where the main thread of a worker that ends is."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from pytest_celerypool.agent import originals


class MainFrames:
    """The innermost frames of the main thread; made in it.

    :param green: whether it runs greenlets: then its own work is in the one that all others come from.
    """

    def __init__(self, *, green: bool) -> None:
        self._main = originals.get_ident()
        self._root: Any = None
        if green:
            from greenlet import getcurrent

            self._root = getcurrent()
            while self._root.parent is not None:
                self._root = self._root.parent

    def innermost(self) -> list[FrameType]:
        """Return them: that of the first greenlet if that waits, and that of whatever runs."""
        found = (getattr(self._root, "gr_frame", None), sys._current_frames().get(self._main))
        return [frame for frame in found if frame is not None]
