import time

from celery import Celery

app = Celery("news")
subscribers = {"a": 1, "b": 2}


@app.task
def notify():
    sent = 0
    for _ in subscribers:
        time.sleep(0.1)
        sent += 1
    return sent


@app.task
def subscribe(name):
    time.sleep(0.05)
    subscribers[name] = 1
    return name
