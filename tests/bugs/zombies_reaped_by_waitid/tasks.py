import contextlib
import os
import subprocess
import time

from celery import Celery

app = Celery("media")


def reap():
    """Collect what earlier conversions left behind."""
    reaped = []
    with contextlib.suppress(ChildProcessError):
        while (status := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
            reaped.append(status.si_pid)
    return len(reaped)


@app.task
def convert(name, quality):
    process = subprocess.Popen(["sh", "-c", f"exit {quality}"])
    time.sleep(0.5)  # send the preview
    return process.wait()


@app.task
def tidy():
    time.sleep(0.3)
    reap()
