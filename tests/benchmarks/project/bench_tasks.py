"""The application whose tasks the benchmarks run, in workers with the agent and without."""

import os
import time

from celery import Celery
from stopwatch import Loader, TimedTask

#: The key of the list to which the last of many tasks ``wait_unheard`` appends the moment of its end.
ALL_ENDED = "all-ended"

app = Celery("bench", loader=Loader)
# By default every thread, and so every greenlet, that ends a task makes a result backend of its own.
app.conf.result_backend_thread_safe = os.environ.get("BENCH_SHARED_BACKEND") == "1"


@app.task
def add(x, y):
    """Return the sum: a task that costs nothing."""
    return x + y


@app.task(base=TimedTask)
def in_slot():
    """Do nothing, and have the slot measured."""


@app.task
def wait(seconds):
    """Wait as tasks wait for others, and return the moment of the end in seconds of the system's own clock."""
    time.sleep(seconds)
    return time.monotonic()


@app.task(ignore_result=True)
def wait_unheard(seconds, count):
    """Wait, and store nothing; the last of `count` says when it ended. For pools of one process."""
    time.sleep(seconds)
    now = time.monotonic()
    unheard.append(now)
    if len(unheard) == count:
        unheard.clear()
        app.backend.client.rpush(ALL_ENDED, now)


unheard = []
