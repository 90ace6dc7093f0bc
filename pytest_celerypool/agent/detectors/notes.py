"""What the processes of one worker write down for one another: lines of JSON in a file of the worker's folder.

A line is written by one call of the system, to the end of the file, so that lines of several processes never mix.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

from pytest_celerypool.agent import originals

#: Bytes of the file that are read at once.
_CHUNK = 1 << 16


class Notes:
    """The notes of one detector.

    :param folder: the worker's.
    :param name: tells them from those of other detectors.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._path = os.path.join(folder, f"{name}.jsonl")
        self._fd = -1
        self._read_to = 0
        self._rest = b""

    def add(self, notes: Iterable[Any]) -> None:
        """Write notes down, each of which JSON can say; raises :exc:`OSError`."""
        self._open()
        originals.append(self._fd, "".join(json.dumps(note) + "\n" for note in notes).encode())

    def news(self) -> Iterator[Any]:
        """Yield what any process has noted since the last time, in its order; raises :exc:`OSError`."""
        self._open()
        # Nothing has been added mostly: that is known without a buffer.
        while os.fstat(self._fd).st_size > self._read_to and (data := os.pread(self._fd, _CHUNK, self._read_to)):
            self._read_to += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            yield from map(json.loads, lines)

    def _open(self) -> None:
        if self._fd < 0:
            self._fd = originals.open_file(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def forked(self) -> None:
        """Go on in a child, which opens the file itself."""
        self._fd = -1

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
