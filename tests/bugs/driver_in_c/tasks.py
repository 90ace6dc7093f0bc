import ctypes
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("weather")

libc = ctypes.CDLL(None)


def query(microseconds):
    # stands for a driver that waits for its server in C
    libc.usleep(microseconds)
    return microseconds


@app.task
def forecast(*stations):
    # "A thread keeps the worker free."
    with ThreadPoolExecutor(2) as executor:
        return list(executor.map(query, stations))
