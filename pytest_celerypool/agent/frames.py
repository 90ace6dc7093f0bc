"""Tell the user's own frames from those of Python, Celery and the libraries, and describe them.

A finding names the line of the user's that did it; what lies below (a driver, the pool, Celery) is the same for all.
"""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))

#: Where Celery hands over to the task.
TRACER = os.path.join("celery", "app", "trace.py")


class Entry(NamedTuple):
    """A frame that an exception came through.

    :ivar line: at which it did.
    :ivar instruction: the offset of the instruction.
    """

    frame: FrameType
    line: int
    instruction: int


def chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that it was raised from."""
    seen: set[int] = set()
    each: BaseException | None = exc
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def message_of(exc: BaseException) -> str:
    """Return the text of an exception, an empty one if its class cannot give it."""
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        return ""


class Frames:
    """What is the user's in this process.

    :param root: the project's root; paths below it are shown relative to it.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        paths = sysconfig.get_paths()
        ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self._ours = ours + os.sep
        self._foreign = tuple({paths["stdlib"] + os.sep, paths["platstdlib"] + os.sep, self._ours})
        self._known: dict[str, bool] = {}
        #: Of files of frames: whether to look further out, ``None`` at the user's.
        self._passed: dict[str, bool | None] = {}

    def is_user(self, filename: str) -> bool:
        """Whether a file is neither of Python, nor installed, nor of this plugin."""
        known = self._known.get(filename)
        if known is None:
            foreign = filename.startswith(("<", *self._foreign)) or any(part in filename for part in _INSTALLED)
            # Cython gives its modules the path at which they were built.
            absent = not os.path.isabs(filename) and not os.path.exists(filename)
            known = self._known[filename] = not (foreign or absent)
        return known

    def is_ours(self, filename: str) -> bool:
        """Whether a file is this plugin's: a function that stands for one of the library's is not worth a line."""
        return filename.startswith(self._ours)

    def user_frame(self, frame: FrameType | None = None) -> FrameType | None:
        """Return the user's frame that is nearest to `frame` (by default the caller's), ``None`` if there is none.

        Beyond the point where Celery called a task lie the frames of whoever runs the worker, in a host those of a
        test: none of them is the task's.
        """
        if frame is None:
            frame = sys._getframe(1)
        # A task's stack is some twenty frames deep, and each file that Celery opens in it asks: one look a frame.
        passed = self._passed
        while frame is not None:
            filename = frame.f_code.co_filename
            further = passed[filename] if filename in passed else self._passes(filename)
            if further is None:
                return frame
            frame = frame.f_back if further else None
        return None

    def _passes(self, filename: str) -> bool | None:
        further = None if self.is_user(filename) else not filename.endswith(TRACER)
        self._passed[filename] = further
        return further

    def raised_at(self, exc: BaseException) -> list[Entry]:
        """Return the user's frames that an exception came through, the innermost first."""
        found: list[Entry] = []
        trace = exc.__traceback__
        while trace is not None:
            if self.is_user(trace.tb_frame.f_code.co_filename):
                found.append(Entry(trace.tb_frame, trace.tb_lineno, trace.tb_lasti))
            trace = trace.tb_next
        return found[::-1]

    def raised_places(self, exc: BaseException) -> list[str]:
        """Return the same as places."""
        return [
            self.place_of(each.frame.f_code.co_filename, each.line, each.frame.f_code.co_name)
            for each in self.raised_at(exc)
        ]

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
