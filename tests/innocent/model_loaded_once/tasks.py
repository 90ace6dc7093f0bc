import threading
import time

from celery import Celery

app = Celery("vision")
model, lock = None, threading.Lock()


@app.task
def infer(number):
    global model
    with lock:
        if model is None: time.sleep(0.4); model = object()
    return number
