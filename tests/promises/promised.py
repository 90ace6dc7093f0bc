"""The application whose tasks show what the pools do: they compute, wait, do both, or ask a server over HTTP."""

import os
import time
import urllib.request

from celery import Celery

app = Celery("promised")
# By default each greenlet makes a result backend of its own, which costs more than all else together.
app.conf.result_backend_thread_safe = True

#: Additions that take about a millisecond of processor time.
ADDITIONS_PER_MS = 14_000


@app.task
def nothing():
    """Return at once: all that it costs is the pool's."""


@app.task
def compute(milliseconds):
    """Use about so much processor time."""
    total = 0
    for number in range(milliseconds * ADDITIONS_PER_MS):
        total += number & 3
    return total


@app.task
def wait(seconds):
    """Wait as tasks wait for others."""
    time.sleep(seconds)


@app.task
def wait_for(path):
    """Wait until a file exists, in short steps."""
    while not os.path.exists(path):
        time.sleep(0.01)


@app.task
def ask_and_compute(seconds, milliseconds):
    """Wait for somebody's answer, then work on it."""
    wait(seconds)
    compute(milliseconds)


@app.task(ignore_result=True)
def fetch(url):
    """Ask a server and read the answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return len(answer.read())
