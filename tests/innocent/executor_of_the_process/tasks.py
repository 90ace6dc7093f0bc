import time
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from celery import Celery

app = Celery("archive")
lock = Lock()
uploads = None


def upload(number):
    time.sleep(0.4)
    return number


def executor():
    global uploads
    with lock:
        if uploads is None:
            uploads = ThreadPoolExecutor(5)
        return uploads


@app.task
def store(number):
    executor().submit(upload, number)
    return number
