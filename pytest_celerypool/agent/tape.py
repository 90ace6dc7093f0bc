"""A file that one process appends lines to without calling the system: it is mapped into memory, piece after piece.

A ``write`` takes 2 µs in a loop. Between two tasks, where nothing that it needs is in the processor's caches, it takes
7 to 23 (measured on one machine at different times); copying the line into memory takes 1 to 3 there. What was copied
survives the process, however that ends.

Behind the lines the file has zeros, which no line contains: whoever reads stops at the first, and goes on from there.
"""

from __future__ import annotations

import mmap
import os

from pytest_celerypool.agent import originals

#: Bytes that are mapped at a time; they count as memory of the process as they are written to.
PIECE = 1 << 16

#: Seconds that another thread may take to map the next piece.
_LONGEST_S = 1.0


class Tape:
    """Lines in the file at `path`, behind those of an earlier process.

    Any thread may append, also in a signal handler or a callback of the garbage collector: ``mmap.write`` copies and
    moves on in one step.

    :ivar write: appends a line to the piece that is mapped now, and raises :exc:`ValueError` where it does not fit.
    :raises OSError: the file cannot be written, or its system cannot set space aside. Memory behind which there is no
        space would end the process when it is written to.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._turning = originals.RLock()
        self._size = 0
        self._piece = self._map(PIECE)
        self.write = self._piece.write

    def append(self, line: bytes) -> bool:
        """Append a line, which ends with its line feed; returns whether it was taken."""
        return self._fits(line) or self.turn(line)

    def turn(self, line: bytes) -> bool:
        """Append a line to the next piece, unless this thread is about to map that already."""
        # Not in typeshed; threading.Condition calls it.
        if self._turning._is_owned() or not self._turning.acquire(True, _LONGEST_S):  # type: ignore[attr-defined]
            return False
        try:
            if not self._fits(line):  # no other thread has turned meanwhile
                piece = self._map(len(line))
                piece.write(line)  # before others know of the piece, and fill it
                _fill(self._piece)
                self._piece, self.write = piece, piece.write
        except OSError:  # there is no space
            return False
        finally:
            self._turning.release()
        return True

    def _fits(self, line: bytes) -> bool:
        """Append a line if there is room in the piece; returns whether there was."""
        try:
            self.write(line)
        except ValueError:
            return False
        return True

    def _map(self, size: int) -> mmap.mmap:
        """Return the next piece of the file, of at least so many bytes."""
        size = -(-max(size, PIECE) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        # Opened each time: by then the number may be that of a file of the user's, who has closed all that were open.
        fd = originals.open_file(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not self._size:
                self._size = _fill_earlier(fd)
            os.posix_fallocate(fd, self._size, size)
            piece = mmap.mmap(fd, size, offset=self._size)
        finally:
            os.close(fd)
        self._size += size
        return piece


def _fill(piece: mmap.mmap) -> None:
    """Leave no room in a piece: who reads goes on to the next one."""
    while rest := len(piece) - piece.tell():
        try:
            piece.write(b"\n" * rest)
        except ValueError:  # somebody has appended since
            continue


def _fill_earlier(fd: int) -> int:
    """Leave no room in what an earlier process has written, and return its size in bytes."""
    size = os.fstat(fd).st_size
    if size:
        with mmap.mmap(fd, size) as earlier:
            begin = earlier.find(b"\0")
            if begin >= 0:
                earlier[begin:] = b"\n" * (size - begin)
    return size
