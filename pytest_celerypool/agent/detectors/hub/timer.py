"""A timer for which one thread waits, and which another one puts off as long as all is well.

To look at the hub's thread, the thread that looks needs the interpreter's lock: the hub's thread stops, and both are
woken by the system. On a busy worker that takes a millisecond of processor time (measured on a slow machine), so it is
not to happen for nothing. Putting off Linux's ``timerfd`` takes a call of the system, and wakes nobody.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time
from typing import Any, Protocol

from pytest_celerypool.agent import originals

_TFD_CLOEXEC, _TFD_NONBLOCK = os.O_CLOEXEC, os.O_NONBLOCK


class Timer(Protocol):
    """What the thread waits for.

    :ivar puts_off: whether it can be put off; if not, the thread has to look at a regular pace.
    """

    puts_off: bool

    def put_off(self) -> None:
        """Let it be due the agreed seconds from now; called in the middle of switches, so it must not wait."""

    def fire(self) -> None:
        """Let it be due now."""

    def wait(self, seconds: float) -> None:
        """Return when it is due, at the latest after so many seconds; of less than none there is no end."""

    def close(self) -> None:
        """Give back what it has; nobody waits any more."""


def make(seconds: float) -> Timer:
    """Return a timer that is due so many seconds after it was put off."""
    if sys.platform == "linux":
        try:
            return PutOff(seconds)
        except OSError:  # no more descriptors
            pass
    return Paced()


class Paced:
    """Waits for as long as it is told to."""

    puts_off = False

    def __init__(self) -> None:
        self._due = originals.allocate_lock()
        self._due.acquire()

    def put_off(self) -> None:
        """Do nothing: this is no such timer."""

    def fire(self) -> None:
        """Let it be due now."""
        if self._due.locked():
            try:
                self._due.release()
            except RuntimeError:  # another greenlet was faster
                pass

    def wait(self, seconds: float) -> None:
        """Wait."""
        self._due.acquire(True, seconds)

    def close(self) -> None:
        """Do nothing."""


class PutOff:
    """A ``timerfd``: timerfd_create(2).

    Its number may be that of a descriptor of the user's some day, who has closed all that were open. So nothing is read
    from it unless the system says that it is a timer, and the thread goes on at a regular pace if it is not.

    :raises OSError: there is none to be had.
    """

    puts_off = True

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._library = originals.library
        self._fd: int = self._library.timerfd_create(time.CLOCK_MONOTONIC, _TFD_CLOEXEC | _TFD_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._set: Any = self._library.timerfd_settime
        self._later, self._now = _from_now(seconds), _from_now(1e-9)
        self._read = ctypes.create_string_buffer(ctypes.sizeof(ctypes.c_uint64))
        self._left = _from_now(0.0)
        self._poll = originals.poll()
        self._poll.register(self._fd, select.POLLIN)

    def put_off(self) -> None:
        """Let it be due the agreed seconds from now."""
        self._set(self._fd, 0, self._later, None)

    def fire(self) -> None:
        """Let it be due now."""
        self._set(self._fd, 0, self._now, None)

    def wait(self, seconds: float) -> None:
        """Wait, without the interpreter's lock."""
        self._poll.poll(-1 if seconds < 0 else seconds * 1e3)
        if self._library.timerfd_gettime(self._fd, self._left) == 0:
            # Nothing is read where it was put off since.
            self._library.read(self._fd, self._read, len(self._read))
        else:
            originals.sleep(self._seconds)

    def close(self) -> None:
        """Close it."""
        if self._library.timerfd_gettime(self._fd, self._left) == 0:
            os.close(self._fd)


def _from_now(seconds: float) -> Any:
    """Return an ``itimerspec`` of one moment, so many seconds from now."""
    return (ctypes.c_long * 4)(0, 0, int(seconds), int(seconds % 1 * 1e9))
