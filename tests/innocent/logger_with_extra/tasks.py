import logging
import time

from celery import Celery
from celery.utils.log import get_task_logger

app = Celery("jobs")
log = get_task_logger(__name__)


class JobAdapter(logging.LoggerAdapter):
    def process(self, msg, kwargs):
        return f"[job {self.extra['job']}] {msg}", kwargs


@app.task
def job(number):
    mine = JobAdapter(logging.getLogger(f"jobs.{number % 2}"), {"job": number})
    for step in range(3):
        mine.warning("step %s", step)
        log.info("step", extra={"job": number})
        time.sleep(0.03)
    return number
