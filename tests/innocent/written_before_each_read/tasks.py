import time

from celery import Celery

app = Celery("status")
state = {"last": None, "previous": None}


@app.task
def step(number):
    state["last"] = number
    time.sleep(0.1)
    state["last"] = number
    state["finished"] = time.time()
    return number
