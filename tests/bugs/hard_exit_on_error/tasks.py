import os

from celery import Celery

app = Celery("daemon")


def fatal(message):
    print(message)
    os._exit(3)


@app.task
def check(free):
    if free < 1:
        fatal("disk full")
    return free
