"""Primitives saved before gevent or eventlet replace them, and calls that keep the interpreter's lock.

:mod:`pytest_celerypool.agent.__main__` imports this module before anything is patched, so it may import
nothing that imports ``threading``, ``socket`` or ``ssl``. eventlet replaces ``os.read`` and ``os.write`` with
functions that must not be called from its hub (celery/celery#10083), and both libraries replace the thread
identity with the greenlet's.

``os.read`` and ``os.write`` give up the interpreter's lock for the microsecond that they take. Where other threads
run Python the caller then waits for up to five milliseconds to get it back (``sys.getswitchinterval``), and a task of
the pool ``threads`` would be stopped six times by an agent that only writes down that it began and ended.
:class:`ctypes.PyDLL` calls the same functions of the C library without that.
"""

import _thread
import ctypes
import os
import time
from collections.abc import Callable

open_file = os.open
get_ident = _thread.get_ident
sleep = time.sleep
write = os.write

#: More than the first two figures of ``statm`` or ``schedstat`` take.
_SIZE = 64

_library = ctypes.PyDLL(None, use_errno=True)
_library.pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
_library.pread.restype = ctypes.c_ssize_t
_library.write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
_library.write.restype = ctypes.c_ssize_t


def append(fd: int, data: bytes) -> None:
    """Write `data` to the file `fd` without giving up the interpreter's lock; raises :exc:`OSError`."""
    if _library.write(fd, data, len(data)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def reader(fd: int) -> Callable[[], bytes]:
    """Return a function that gives the beginning of the file `fd`, empty if it cannot be read.

    It does not give up the interpreter's lock. Read are 64 bytes, behind which an earlier, longer text may go on.
    """
    buffer = ctypes.create_string_buffer(_SIZE)
    address, pread = ctypes.addressof(buffer), _library.pread

    def read() -> bytes:
        return buffer.raw if pread(fd, address, _SIZE, 0) > 0 else b""

    return read
