"""Answer "where is every slot?" when the worker is asked by ``SIGURG``.

``faulthandler`` writes the stack of every thread from the signal handler itself, so it answers while C code
keeps the process. Greenlets that wait have no thread: a Python handler, called when the hub next runs, adds
theirs. ``SIGURG`` because its default is to be ignored: sending it can hurt no process.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections.abc import Iterable
from typing import Any, TextIO

SIGNAL = signal.SIGURG


class StackWriter:
    """Writes the stacks of this process to ``FOLDER/stacks-PID`` each time :data:`SIGNAL` arrives."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._file: TextIO | None = None
        self._greenlets: Iterable[Any] = ()

    def register(self, greenlets: Iterable[Any] | None = None) -> None:
        """Begin to answer in this process; to be called anew in a forked child.

        :param greenlets: the greenlets that run tasks, read at the moment of the signal.
        """
        self._file = open(  # noqa: SIM115 - open as long as the process lives
            os.path.join(self._folder, f"stacks-{os.getpid()}"), "a", encoding="utf-8"
        )
        if greenlets is not None:
            self._greenlets = greenlets
            signal.signal(SIGNAL, self._write_greenlets)
        faulthandler.register(SIGNAL, self._file, all_threads=True, chain=greenlets is not None)

    def _write_greenlets(self, *_: Any) -> None:
        assert self._file is not None
        for greenlet in list(self._greenlets):
            frame = greenlet.gr_frame
            if frame is not None:
                stack = "".join(traceback.format_stack(frame))
                self._file.write(f"Greenlet {id(greenlet):#x} (most recent call last):\n{stack}\n")
        self._file.flush()
