import logging
import os
import time

from celery import Celery

app = Celery("jobs")
log = logging.getLogger("jobs")


@app.task
def job(number):
    handler = logging.FileHandler(os.path.join(os.environ["CASE_DIR"], f"job{number}.log"))
    log.addHandler(handler)
    try:
        for step in range(3):
            log.warning("job %s step %s", number, step)
            time.sleep(0.05)
    finally:
        log.removeHandler(handler)
        handler.close()
    return number
