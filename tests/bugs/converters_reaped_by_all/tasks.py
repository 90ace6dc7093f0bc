import os
import subprocess
import time

from celery import Celery

app = Celery("videos")


def reap():
    """Return how the programs have ended that have."""
    found = {}
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found[ended[0]] = os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:
        pass
    return found


@app.task
def convert(video):
    program = subprocess.Popen(["sh", "-c", "sleep 0.2"])
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if program.pid in reap():
            return video
        time.sleep(0.02)
    return None
