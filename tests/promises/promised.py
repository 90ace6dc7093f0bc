"""The application whose tasks show what the pools do: they compute, wait, do both, or ask a server over HTTP."""

import os
import time
import urllib.request

from celery import Celery

app = Celery("promised")
# By default each greenlet makes a result backend of its own, which costs more than all else together.
app.conf.result_backend_thread_safe = True


@app.task
def nothing():
    """Return at once: all that it costs is the pool's."""


@app.task
def compute(milliseconds):
    """Use so much processor time, on a slow machine as on a fast one."""
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        pass


@app.task
def wait(seconds):
    """Wait as tasks wait for others."""
    time.sleep(seconds)


@app.task
def wait_for(path):
    """Wait until a file exists, in short steps."""
    while not os.path.exists(path):
        time.sleep(0.01)


@app.task(ignore_result=True)
def fetch(url):
    """Ask a server and read the answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return len(answer.read())
