import multiprocessing
import time

from celery import Celery

app = Celery("numbers")

QUEUE = multiprocessing.SimpleQueue()


@app.task
def next_number():
    return QUEUE.get()


@app.task
def give(number):
    time.sleep(0.1)
    QUEUE.put(number)
