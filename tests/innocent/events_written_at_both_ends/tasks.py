import atexit
import os

from celery import Celery
from celery.signals import worker_process_shutdown

app = Celery("events")

waiting, cached = [], {}


@worker_process_shutdown.connect
def upload(**_):
    if waiting:
        with open(os.path.join(os.environ["CASE_DIR"], f"events-{os.getpid()}"), "a") as file:
            file.writelines(waiting)
        waiting.clear()


@atexit.register
def forget():
    cached.clear()


@app.task
def event(name):
    waiting.append(name)
    cached[name] = len(name)
    return name


atexit.register(upload)
