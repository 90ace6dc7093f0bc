import time

from celery import Celery

app = Celery("tickets")


def numbers():
    number = 0
    while True:
        number += 1
        time.sleep(0.05)
        yield number


source = numbers()


@app.task
def ticket(holder):
    return next(source)
