import ctypes
import time

from celery import Celery

app = Celery("drivers")
library = ctypes.CDLL(None)


@app.task
def query(seconds):
    library.usleep(int(seconds * 1_000_000))
    return seconds


@app.task
def quick(n):
    return n
