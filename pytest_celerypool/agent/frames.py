"""Tell the user's own frames from those of Python, Celery and the libraries, and describe them.

A finding names the line of the user's that did it; what lies below (a driver, the pool, Celery) is the same for all.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from types import FrameType

_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))

#: Where Celery hands over to the task.
TRACER = os.path.join("celery", "app", "trace.py")


class Frames:
    """What is the user's in this process.

    :param root: the project's root; paths below it are shown relative to it.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        paths = sysconfig.get_paths()
        ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self._foreign = tuple({paths["stdlib"] + os.sep, paths["platstdlib"] + os.sep, ours + os.sep})
        self._known: dict[str, bool] = {}

    def is_user(self, filename: str) -> bool:
        """Whether a file is neither of Python, nor installed, nor of this plugin."""
        known = self._known.get(filename)
        if known is None:
            foreign = filename.startswith(("<", *self._foreign)) or any(part in filename for part in _INSTALLED)
            known = self._known[filename] = not foreign
        return known

    def user_frame(self, frame: FrameType | None = None) -> FrameType | None:
        """Return the user's frame that is nearest to `frame` (by default the caller's), ``None`` if there is none."""
        if frame is None:
            frame = sys._getframe(1)
        while frame is not None and not self.is_user(frame.f_code.co_filename):
            frame = frame.f_back
        return frame

    def place(self, frame: FrameType | None) -> str:
        """Return ``path:line in function: source`` of a frame; of none, a text that says so."""
        if frame is None:
            return "(no frame of the project's own)"
        return self.place_of(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)

    def place_of(self, filename: str, line: int, function: str) -> str:
        """Return the same of a line that is known by its numbers."""
        source = linecache.getline(filename, line).strip()
        return f"{self.shown(filename)}:{line} in {function}" + (f": {source}" if source else "")

    def shown(self, filename: str) -> str:
        """Return a path as it is shown: relative to the project's root if it lies below it."""
        path = os.path.realpath(filename)
        return os.path.relpath(path, self._root) if path.startswith(self._root + os.sep) else filename

    def stack(self, frame: FrameType | None, most: int = 12) -> list[str]:
        """Return the places from a frame outwards, the innermost first, up to where Celery called the task."""
        places: list[str] = []
        while frame is not None and len(places) < most and not frame.f_code.co_filename.endswith(TRACER):
            places.append(self.place(frame))
            frame = frame.f_back
        return places
