"""Collect garbage when the test process asks for it by ``SIGWINCH``: before and after a test whose memory is judged.

``SIGWINCH`` because its default is to be ignored, and no worker has a terminal. Where the user's code handles it,
garbage is left alone.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from typing import Any

SIGNAL = signal.SIGWINCH


class Collector:
    """Collects the garbage of this process at each :data:`SIGNAL`, and says so in ``FOLDER/collected-PID``."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = ""

    def register(self) -> None:
        """Begin to answer in this process; to be called anew in a forked child."""
        if signal.getsignal(SIGNAL) not in (signal.SIG_DFL, signal.SIG_IGN, None, self._collect):
            return
        self._path = answers(self._folder, os.getpid())
        with open(self._path, "ab"):
            pass
        signal.signal(SIGNAL, self._collect)

    def _collect(self, *_: Any) -> None:
        collect()
        try:
            with open(self._path, "ab") as file:
                file.write(b".")
        except OSError:  # the user's code has opened as many files as it may; who asked waits in vain, for two seconds
            pass


def collect() -> None:
    """Collect the garbage of this process, and give back what the C library keeps of freed memory.

    glibc keeps large blocks after a program has freed one of that size (``M_MMAP_THRESHOLD`` in ``mallopt(3)``); those
    of the threads but the main one it keeps even so.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def answers(folder: str, pid: int) -> str:
    """Return the path of the file that has a byte for each time that a process has collected its garbage."""
    return os.path.join(folder, f"collected-{pid}")
