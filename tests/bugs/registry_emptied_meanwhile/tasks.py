import time

from celery import Celery

app = Celery("uploads")
deferred = {"endpoints": lambda: time.sleep(0.1) or "ready"}
loaded = {}


def component(name):
    if name in deferred:
        loaded[name] = deferred[name]()
        del deferred[name]
    return loaded[name]


@app.task
def upload(number):
    return component("endpoints")
