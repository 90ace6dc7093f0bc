"""Primitives saved before gevent or eventlet replace them, and calls that keep the interpreter's lock.

:mod:`pytest_celerypool.agent.__main__` imports this module before anything is patched, so it may import
nothing that imports ``threading``, ``socket`` or ``ssl``. eventlet replaces ``os.read`` and ``os.write`` with
functions that must not be called from its hub (celery/celery#10083), and both libraries replace the thread
identity with the greenlet's.

``os.read`` and ``os.write`` give up the interpreter's lock for the microsecond that they take. Where other threads
run Python the caller then waits for up to five milliseconds to get it back (``sys.getswitchinterval``), and a task of
the pool ``threads`` would be stopped six times by an agent that only writes down that it began and ended.
:class:`ctypes.PyDLL` calls the same functions of the C library without that, for a microsecond more: it is used where
tasks run in threads, or share the process with a test.
"""

import _thread
import ctypes
import os
import select
import time

allocate_lock = _thread.allocate_lock
RLock = _thread.RLock
open_file = os.open
read_at = os.pread
get_ident = _thread.get_ident
get_native_id = _thread.get_native_id
sleep = time.sleep
start_new_thread = _thread.start_new_thread
write = os.write
poll = select.poll

library = ctypes.PyDLL(None, use_errno=True)
library.write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
library.write.restype = ctypes.c_ssize_t

#: Takes what :func:`pread_arguments` returns: to convert four numbers for each call takes longer than the call.
pread = library.pread
pread.restype = ctypes.c_ssize_t


def pread_arguments(fd: int, buffer: ctypes.Array[ctypes.c_char]) -> tuple[object, ...]:
    """Return the arguments for reading the file `fd` from its beginning into a buffer."""
    return ctypes.c_int(fd), buffer, ctypes.c_size_t(len(buffer)), ctypes.c_long(0)


def append(fd: int, data: bytes) -> None:
    """Write `data` to the file `fd` without giving up the interpreter's lock; raises :exc:`OSError`."""
    if library.write(fd, data, len(data)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def read_held(fd: int, size: int) -> bytes:
    """Return the first `size` bytes of the file `fd`, and keep the interpreter's lock; raises :exc:`OSError`."""
    buffer = ctypes.create_string_buffer(size)
    count = pread(*pread_arguments(fd, buffer))
    if count < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return buffer.raw[:count]
