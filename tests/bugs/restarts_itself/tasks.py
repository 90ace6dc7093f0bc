import os
import signal
import time

from celery import Celery

app = Celery("deploy")


@app.task
def upgrade(version):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    return version
