import ctypes
import time

from celery import Celery

app = Celery("codecs")


@app.task
def decode(address):
    return ctypes.string_at(address)


@app.task
def slow(seconds):
    time.sleep(seconds)
    return seconds
