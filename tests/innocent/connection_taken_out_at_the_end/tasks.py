import threading

from celery import Celery

app = Celery("statistics")

open_now = {}
own = threading.local()


@app.task
def count(word):
    name = threading.current_thread().name
    own.word = open_now[name] = word
    try:
        return len(open_now[name])
    finally:
        del open_now[name]
