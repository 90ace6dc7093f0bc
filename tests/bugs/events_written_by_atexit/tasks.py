import atexit
import json
import os

from celery import Celery

app = Celery("events")

waiting = []


def upload():
    if waiting:
        with open(os.path.join(os.environ["CASE_DIR"], f"events-{os.getpid()}.json"), "w") as file:
            json.dump(waiting, file)
        waiting.clear()


@app.task
def event(name):
    waiting.append(name)
    if len(waiting) >= 50:
        upload()
    return name


atexit.register(upload)
