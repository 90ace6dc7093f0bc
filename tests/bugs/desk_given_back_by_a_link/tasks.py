import time

import gevent
from celery import Celery

app = Celery("desks")
desks = ["north", "south", "east", "west"]


def borrow():
    desk = desks.pop()
    gevent.getcurrent().link(lambda _: desks.append(desk))
    return desk


@app.task
def write_letter(text):
    desk = borrow()
    time.sleep(0.1)
    return f"{text}, written at {desk}"
