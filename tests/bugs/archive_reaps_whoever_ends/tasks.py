import os
import subprocess
import time

from celery import Celery

app = Celery("backup")


@app.task
def archive(name):
    os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "sleep 1.2; exit 1")
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)


@app.task
def verify(name):
    check = subprocess.Popen(["sh", "-c", "sleep 0.2; exit 3"])
    time.sleep(0.5)
    return check.wait()
