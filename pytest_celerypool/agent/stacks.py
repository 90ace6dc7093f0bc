"""Answer "where is every slot?" when the worker is asked by ``SIGURG``.

``faulthandler`` writes the stack of the main thread from the signal handler itself, so it answers while C code keeps
the process. It must not do so for the other threads: they go on meanwhile, and to follow a frame that is gone crashes
the worker (seen with 3.11: ``dump_frame`` of Python/traceback.c). A Python handler, which runs with the interpreter's
lock once the main thread does, writes the stacks of all, and of the greenlets that wait, which have no thread.
``SIGURG`` because its default is to be ignored: sending it can hurt no process.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections.abc import Iterable
from typing import Any

from pytest_celerypool.agent import originals

SIGNAL = signal.SIGURG

#: Around what the Python handler writes: it stands for all that was written before.
_BEGIN, _END = "\f\n", "\v\n"


class StackWriter:
    """Writes the stacks of this process to ``FOLDER/stacks-PID`` each time :data:`SIGNAL` arrives."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._fd = -1
        self._greenlets: Iterable[Any] = ()

    def register(self, greenlets: Iterable[Any] | None = None) -> None:
        """Begin to answer in this process; to be called anew in a forked child.

        :param greenlets: the greenlets that run tasks, read at the moment of the signal.
        """
        path = os.path.join(self._folder, f"stacks-{os.getpid()}")
        before = self._fd
        self._fd = originals.open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if greenlets is not None:
            self._greenlets = greenlets
        signal.signal(SIGNAL, self._write_all)
        faulthandler.register(SIGNAL, self._fd, all_threads=False, chain=True)
        if before >= 0:  # that of the process that has forked this one
            os.close(before)

    def _write_all(self, *_: Any) -> None:
        """Write all stacks; may be called within itself, when the signal comes again, so that it keeps nothing."""
        try:
            originals.write(self._fd, _BEGIN.encode())
            faulthandler.dump_traceback(self._fd, all_threads=True)
            originals.write(self._fd, (format_greenlets(self._greenlets) + _END).encode(errors="replace"))
        except Exception:  # noqa: BLE001 - it stands in the middle of the user's code, which has to go on
            pass


def is_whole(text: str) -> bool:
    """Whether an answer has the stacks of all threads; if not, so far the main thread alone has answered."""
    return text.endswith(_END)


def format_greenlets(greenlets: Iterable[Any]) -> str:
    """Return the stacks of those of some greenlets that wait."""
    texts = []
    for greenlet in list(greenlets):
        frame = greenlet.gr_frame
        if frame is not None:
            stack = "".join(traceback.format_stack(frame))
            texts.append(f"Greenlet {id(greenlet):#x} (most recent call last):\n{stack}\n")
    return "".join(texts)


#: Where Celery hands over to the task: what lies below is the same for every task.
_TRACER = "celery/app/trace.py"
_IDLE_FRAMES = 2
#: What the stack of the main thread begins with while it writes.
_OWN = f'  File "{__file__}", '
#: Where the agent is: a thread that begins there is one of its own, and no slot.
_AGENT = f'  File "{os.path.dirname(__file__)}{os.sep}'


def shorten(text: str) -> str:
    """Keep of each stack what tells the slots apart: a task's own frames, or the top of an idle one.

    :param text: what :class:`StackWriter` wrote: blocks that begin with a line on their thread or greenlet.
    """
    if is_whole(text):
        text = text.rpartition(_BEGIN)[2].partition(_END)[0]
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith(_OWN):
            continue
        if not line.startswith(" ") and line:
            blocks.append([line])
        elif line and blocks:
            blocks[-1].append(line)
    return "\n".join(line for block in blocks for line in _shortened(block))


def _shortened(block: list[str]) -> list[str]:
    head, frames = block[0], block[1:]
    tracers = [number for number, line in enumerate(frames) if _TRACER in line]
    if "most recent call last" in head:
        return [head, *frames[tracers[-1] + 1 :]] if tracers else block
    if tracers:
        return [head, *frames[: tracers[0]]]
    if frames and frames[-1].startswith(_AGENT):
        return []
    return [head + " idle", *frames[:_IDLE_FRAMES]]
