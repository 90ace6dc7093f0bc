import ctypes
import os
import time

from celery import Celery

app = Celery("devices")

libc = ctypes.CDLL(None, use_errno=True)


@app.task
def why_not(path):
    ctypes.set_errno(0)
    failed = libc.open(path.encode(), os.O_RDONLY) < 0
    number = ctypes.get_errno()
    time.sleep(0.05)
    return os.strerror(number) if failed else None
