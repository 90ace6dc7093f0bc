import logging
import os
import time

from celery import Celery

app = Celery("jobs")


@app.task(bind=True)
def job(self, number):
    path = os.path.join(os.environ["CASE_DIR"], f"job{number}.log")
    log = logging.Logger(f"job {self.request.id}", logging.DEBUG)
    handler = logging.FileHandler(path, mode="w")
    log.addHandler(handler)
    try:
        for step in range(3):
            log.debug("step %s", step)
            time.sleep(0.03)
    finally:
        log.removeHandler(handler)
        handler.close()
    with open(path) as file:
        lines = len(file.readlines())
    os.unlink(path)
    return lines
