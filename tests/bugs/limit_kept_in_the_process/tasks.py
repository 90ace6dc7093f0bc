import time

from celery import Celery

app = Celery("crawler")
last_call = {"at": 0.0}


@app.task
def call(number):
    time.sleep(max(0, last_call["at"] + 0.1 - time.time()))
    last_call["at"] = time.time()
    return number
