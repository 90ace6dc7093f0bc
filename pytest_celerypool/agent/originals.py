"""Primitives saved before gevent or eventlet replace them.

:mod:`pytest_celerypool.agent.__main__` imports this module before anything is patched, so it may import
nothing that imports ``threading``, ``socket`` or ``ssl``. eventlet replaces ``os.read`` and ``os.write`` with
functions that must not be called from its hub (celery/celery#10083), and both libraries replace the thread
identity with the greenlet's.
"""

import _thread
import os
import time

open_file = os.open
write = os.write
get_ident = _thread.get_ident
sleep = time.sleep
