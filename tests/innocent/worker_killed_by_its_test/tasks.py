import os
import time

from celery import Celery

app = Celery("late")


@app.task(acks_late=True)
def careful(seconds):
    with open(os.path.join(os.environ["CASE_DIR"], "begun"), "a") as file:
        file.write("x")
    time.sleep(seconds)
    return seconds
