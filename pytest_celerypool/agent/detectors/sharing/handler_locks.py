"""The lock that each handler of ``logging`` has: who logs takes it, and has it while the handler writes.

No line of the user's names it, so it is read from the frames of ``logging`` itself.
"""

from __future__ import annotations

import logging
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from pytest_celerypool.agent.frames import TRACER


class HandlerLock(NamedTuple):
    """The lock of a handler that a task has, or waits for.

    :ivar held: whether it has it: the handler is writing.
    :ivar logs: the frame that handed the record to the logger.
    """

    lock: Any
    text: str
    held: bool
    logs: types.FrameType


def handler_locks(frame: types.FrameType | None) -> Iterator[HandlerLock]:
    """Yield the locks of handlers that a task has taken or waits for, the innermost first.

    :param frame: the innermost frame of its slot.
    """
    inner: set[str] = set()
    while frame is not None and not frame.f_code.co_filename.endswith(TRACER):
        if frame.f_code is logging.Handler.handle.__code__:
            handler = frame.f_locals.get("self")
            lock, caller = getattr(handler, "lock", None), _caller(frame)
            if lock is not None and caller is not None and "filter" not in inner:
                yield HandlerLock(lock, f"the lock of {type(handler).__name__}", "emit" in inner, caller)
            inner = set()
        else:
            inner.add(frame.f_code.co_name)
        frame = frame.f_back


def _caller(frame: types.FrameType) -> types.FrameType | None:
    outer: types.FrameType | None = frame
    while outer is not None and outer.f_code.co_filename == frame.f_code.co_filename:
        outer = outer.f_back
    return outer
