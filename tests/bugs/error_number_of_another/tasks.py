import ctypes
import time

from celery import Celery

app = Celery("devices")

# A library in C that tells by its number of the last error how a call went.
libc = ctypes.CDLL(None, use_errno=True)


def call(status):
    ctypes.set_errno(status)
    time.sleep(0.1)  # until the device has answered
    return ctypes.get_errno()


@app.task
def status_of(device):
    return [device, call(device)]
