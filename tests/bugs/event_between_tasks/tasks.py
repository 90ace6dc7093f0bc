import threading

from celery import Celery

app = Celery("pipeline")
loaded = threading.Event()


@app.task
def transform():
    return loaded.wait(1)


@app.task
def load():
    loaded.set()
    return True
