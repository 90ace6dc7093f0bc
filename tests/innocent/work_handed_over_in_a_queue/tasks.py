import queue
import time

from celery import Celery

app = Celery("pipeline")
jobs = queue.Queue()


@app.task
def work(number):
    jobs.put(number)
    time.sleep(0.05)
    return jobs.get(timeout=5) is not None
