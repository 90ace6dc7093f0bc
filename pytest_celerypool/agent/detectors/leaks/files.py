"""Files, sockets and temporary files that tasks leave behind."""

from __future__ import annotations

import functools
import gc
import os
import socket
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Container, Sequence
from pathlib import PurePath
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

from pytest_celerypool.agent.detectors.holders import Reached, is_emptied, walk
from pytest_celerypool.agent.detectors.leaks.remains import Left, Remains
from pytest_celerypool.trace import Kind

if TYPE_CHECKING:
    from pytest_celerypool.agent.meters import Run
    from pytest_celerypool.agent.watch import Watch


#: What opens a file without a name; where the system has none of these, no flag has all of its bits.
_NAMELESS: int = getattr(os, "O_TMPFILE", -1)

#: At most so many times a process is made to collect its garbage.
_COLLECTIONS = 5


class _Told:
    """A function that tells of each call; like a built-in one, it becomes no method where it is a class attribute."""

    __slots__ = ("__dict__", "_function", "_told")

    def __init__(self, function: Callable[..., Any], told: Callable[..., None]) -> None:
        self._function = function
        self._told = told
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._function(*args, **kwargs)
        self._told(result, *args, **kwargs)
        return result

    def __reduce__(self) -> str:
        return self._function.__qualname__

    def __repr__(self) -> str:
        return repr(self._function)


class Files(Remains):
    """Sees files and sockets that stay open after their task, and temporary files that stay.

    A file that nothing refers to any more is closed by Python at once; so what is left is held by somebody.
    """

    kinds: ClassVar[Sequence[Kind]] = (
        Kind("leaked-file", "fail", "each execution of a task leaves a file open", 3, "executions"),
        Kind("leaked-socket", "fail", "each execution of a task leaves a socket open", 3, "executions"),
        Kind("leaked-temporary", "fail", "each execution of a task leaves a temporary file", 3, "executions"),
    )
    pooled: ClassVar[Container[str]] = ("leaked-socket",)

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._numbers: dict[int, int] = {}
        self._collections = 0

    def install(self) -> None:
        """Hear of every socket and temporary file; of files that are opened, every detector hears."""
        # eventlet gives the module tempfile an os of its own.
        for system in {id(each): each for each in (os, vars(tempfile)["_os"])}.values():
            for name, callback in (("open", self._opened_descriptor), ("mkdir", self._made_folder)):
                self.patch(system, name, _Told(getattr(system, name), self.watch.guarded(self, callback)))
        self.after(socket.socket, "__init__", self._made_socket, in_task=True)

    # -- events

    def opened(self, run: Run, file: Any, path: Any, mode: Any) -> None:
        """A task has opened a file."""
        if not isinstance(path, int):  # a descriptor that was opened before
            ref = weakref.ref(file)
            self.made("leaked-file", sys._getframe(), os.fspath(path), lambda: _is_open(ref()), ref)

    def _opened_descriptor(self, fd: int, path: Any = None, flags: int = 0, *_: Any, **__: Any) -> None:
        if self.watch.current() is None:
            return
        # A file without a name (TemporaryFile) is made by naming the folder.
        if _called_by_tempfile() and flags & _NAMELESS != _NAMELESS:
            self._made_temporary(os.path.abspath(os.fspath(path)))
        identity = _identity(fd)
        # The same number again, perhaps for a new file in the old one's inode: it was closed in between.
        number = self._numbers[fd] = self._numbers.get(fd, 0) + 1

        def there() -> bool:
            return self._numbers.get(fd) == number and identity is not None and _identity(fd) == identity

        self.made("leaked-file", sys._getframe(), os.fspath(path), there, _nothing)

    def _made_folder(self, _: None, path: Any = None, *__: Any, **___: Any) -> None:
        if self.watch.current() is not None and _called_by_tempfile():
            self._made_temporary(os.path.abspath(os.fspath(path)))

    def _made_temporary(self, path: str) -> None:
        self.made("leaked-temporary", sys._getframe(), path, lambda: os.path.lexists(path), _nothing)

    def _made_socket(self, _: None, made: Any, *__: Any, **___: Any) -> None:
        if self.watch.current() is not None:
            ref = weakref.ref(made)
            self.made("leaked-socket", sys._getframe(), "", lambda: _is_connected(ref()), ref)

    # -- judging

    def needed(self, kind: str, task: str, left: list[Left]) -> int:
        """Return how many must be left: fewer of temporary files whose names no global of the user's has.

        What a thread keeps for itself is not to be seen from another; a greenlet's own is gone with it.
        """
        needed, limit = super().needed(kind, task, left), int(self.watch.limit(kind))
        count = len({each.run for each in left})
        if kind != "leaked-temporary" or not self.watch.pool.green or not limit <= count < needed:
            return needed
        paths = {each.made.text for each in left}
        kept = walk(self.watch.frames, lambda value: _path_of(value) in paths)
        return needed if any(kept) else limit

    def grows(self, kind: str, task: str, left: list[Left], *, last: bool) -> tuple[str, list[str], str] | None:
        """Return the finding where it is sure."""
        if kind == "leaked-temporary":
            return self._temporaries(left, last=last)
        holder = self.holder_of(left)
        if holder is None and not self._is_held(kind, task, left, last=last):
            return None
        texts = [_peer(each.made.get()) if kind == "leaked-socket" else each.made.text for each in left]
        distinct = len(set(texts)) == len(texts) or (_WITHOUT_PEER in texts and self.is_registry(holder, left))
        if distinct and all(each.made.get() is not None for each in left) and not _grows(holder):
            # One for each name may be a cache of open ones.
            return None
        what = "file" if kind == "leaked-file" else "socket"
        held = [] if holder is None else [f"held by {holder.path}"]
        return (
            f"each of {len({each.run for each in left})} executions left a {what} open: {len(left)} by now in this "
            f"process; under {self.watch.pool.name} it goes on until no {what} can be opened (EMFILE)",
            [*(f"left: {text}" for text in texts[:4]), *held],
            f"close the {what} where it was opened: a with block, or close() in finally",
        )

    def _is_held(self, kind: str, task: str, left: list[Left], *, last: bool) -> bool:
        """Whether what no global of the user's leads to is held, and does not just wait for the collector of cycles.

        To ask that takes some 20 ms, so it is done a few times at most, and for the last time. Under gevent and
        eventlet Celery has a result backend for each greenlet, with sockets of its own: where the greenlet is not gone
        yet, which may be a while after its task has ended, they count for nothing. One of the newest may.
        """
        if self._collections >= _COLLECTIONS and not last:
            return False
        self._collections += 1
        gc.collect()
        if not all(each.made.there() for each in left):
            return False
        newest, files = left[-1].run, kind == "leaked-file"

        def is_over(each: Left) -> bool:
            greenlet = each.greenlet()
            # One that has ended may be held by what it has left: by the frames of an exception.
            return each.run == newest or greenlet is None or (files and greenlet.dead)

        return len({each.run for each in left if is_over(each)}) >= self.needed(kind, task, left)

    def _temporaries(self, left: list[Left], *, last: bool) -> tuple[str, list[str], str] | None:
        if not last and _handed_over(left):
            return None
        return (
            f"each of {len({each.run for each in left})} executions left a temporary file or folder that nobody "
            f"removed: {len(left)} by now, until the disk is full",
            [f"left: {each.made.text}" for each in left[:4]],
            "remove it in the task: with tempfile.TemporaryDirectory() or NamedTemporaryFile(), or in finally",
        )


def _path_of(value: Any) -> str | None:
    return str(value) if issubclass(type(value), str | PurePath) else None


def _handed_over(left: list[Left]) -> bool:
    """Whether the task that ends gives its temporary file to others: it returns the path, or publishes tasks."""
    paths = [each.made.text for each in left]
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "trace_task":
            request = frame.f_locals.get("task_request")
            text = repr(frame.f_locals.get("retval"))
            names = [os.path.basename(path) for path in paths]
            return bool(getattr(request, "children", None)) or any(name in text for name in names)
        frame = frame.f_back
    return False


def _grows(holder: Reached | None) -> bool:
    """Whether what holds them is a sequence that nothing is taken out of: a list, a set, a deque without a bound."""
    if holder is None or holder.keys:
        return False
    bound = holder.holder.maxlen if isinstance(holder.holder, deque) else None
    return isinstance(holder.holder, list | set | deque) and bound is None and not is_emptied(holder)


def _called_by_tempfile() -> bool:
    """Whether the function that told of its call was called by the module ``tempfile``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and "pytest_celerypool" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None and os.path.basename(frame.f_code.co_filename) == "tempfile.py"


def _is_open(file: Any) -> bool:
    return file is not None and not file.closed


def _is_connected(made: Any) -> bool:
    return made is not None and made.fileno() >= 0


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


#: How a socket is shown that is connected to nobody, as those for datagrams.
_WITHOUT_PEER = "socket without a peer"


def _peer(made: Any) -> str:
    if made is None:
        return "?"
    try:
        return f"socket to {made.getpeername()}"
    except OSError:
        return _WITHOUT_PEER  # the number that the system has chosen for its own end tells nothing


def _nothing() -> None:
    return None
