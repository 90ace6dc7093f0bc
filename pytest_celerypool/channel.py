"""Talk to a process of ours over a pair of sockets: messages, each a name and plain data.

What a test puts into a report may be anything. A value that is no plain data travels pickled, and as its text where
that fails on either side: it must not cost the run.

Imported in a host after it was patched: there every wait lets the other greenlets run.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import threading
import time
from typing import Any

#: A name, and what belongs to it.
Message = tuple[str, dict[str, Any]]

_HEAD = struct.Struct("!I")
_CHUNK = 1 << 16

_PLAIN = (str, int, float, bool, bytes, type(None))
_DEEPEST = 50


class Channel:
    """One end of the pair; a process that is forked off has none.

    :param end: the socket, which belongs to the channel from now on.
    :param send_timeout: seconds that the other side has to take a message, ``None`` for as long as it lives.
    """

    def __init__(self, end: socket.socket, send_timeout: float | None = None) -> None:
        self._socket = end
        self._send_timeout = send_timeout
        self._received = bytearray()
        self._lock = threading.Lock()
        self._owner = os.getpid()
        # A forked child would keep the connection open after its parent's death, or speak in its name.
        os.register_at_fork(after_in_child=self._drop)

    def send(self, name: str, **data: Any) -> None:
        """Send a message; raises :exc:`OSError` if the other side is gone. Does nothing in a forked child."""
        if os.getpid() != self._owner:
            return
        body = encode((name, data))
        with self._lock:
            self._socket.settimeout(self._send_timeout)
            self._socket.sendall(_HEAD.pack(len(body)) + body)

    def receive(self, timeout: float | None) -> Message | None:
        """Return the next message, ``None`` if there is none within `timeout` seconds.

        :param timeout: ``None`` to wait for as long as the other side lives.
        :raises EOFError: the other side is gone.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            message = self._next()
            if message is not None:
                return message
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return None
            self._socket.settimeout(remaining)
            try:
                chunk = self._socket.recv(_CHUNK)
            except TimeoutError:
                return None
            except OSError as exc:
                raise EOFError(str(exc)) from exc
            if not chunk:
                raise EOFError("the other side has closed the connection")
            self._received += chunk

    def _next(self) -> Message | None:
        if len(self._received) < _HEAD.size:
            return None
        (length,) = _HEAD.unpack_from(self._received)
        end = _HEAD.size + length
        if len(self._received) < end:
            return None
        body = bytes(self._received[_HEAD.size : end])
        del self._received[:end]
        message: Message = pickle.loads(body)
        return message

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _drop(self) -> None:
        """Give up the connection but keep the number of its file: the object that owns it may yet close it."""
        number = self._socket.fileno()
        if number >= 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, number, inheritable=False)
            os.close(nothing)


def encode(message: Message) -> bytes:
    """Return a message as bytes, with whatever is in it."""
    return pickle.dumps(_plain(message, 0))


def _plain(value: Any, depth: int) -> Any:
    """Return a copy in which everything that may fail to be pickled or unpickled is safe."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if depth < _DEEPEST:
        if kind is dict:
            return {_plain(key, depth + 1): _plain(each, depth + 1) for key, each in value.items()}
        if kind in (list, tuple, set, frozenset):
            return kind(_plain(each, depth + 1) for each in value)
    return _Foreign(value)


class _Foreign:
    """A value that is no plain data: pickled if that works, and its text."""

    def __init__(self, value: Any) -> None:
        try:
            self._pickled: bytes | None = pickle.dumps(value)
        except Exception:  # noqa: BLE001 - it is the user's object, and its own code that fails
            self._pickled = None
        try:
            self._text = repr(value)
        except Exception:  # noqa: BLE001 - the same
            self._text = f"<{type(value).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._pickled, self._text)


def _restore(pickled: bytes | None, text: str) -> Any:
    if pickled is not None:
        try:
            return pickle.loads(pickled)
        except Exception:  # noqa: BLE001 - the user's class may not be importable here, or refuse
            return text
    return text
