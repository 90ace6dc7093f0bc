import time
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("archive")
app.conf.worker_max_tasks_per_child = 2
uploads = None


def upload(number):
    time.sleep(0.6)
    return number


@app.task
def store(number):
    global uploads
    if uploads is None:
        uploads = ThreadPoolExecutor(4)
    uploads.submit(upload, number)
    return number
