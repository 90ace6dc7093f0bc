import os
import time

from celery import Celery

app = Celery("imports")
app.conf.task_time_limit = 1


@app.task
def wait_for_upload(name):
    deadline = time.monotonic() + 2.5
    while not os.path.exists(os.path.join(os.environ["CASE_DIR"], name)):
        if time.monotonic() > deadline:
            return "given up"
        time.sleep(0.05)
    return "there"
