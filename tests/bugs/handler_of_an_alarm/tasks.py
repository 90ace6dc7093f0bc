import signal

from celery import Celery

app = Celery("render")


class Late(Exception):
    pass


def late(number, frame):
    raise Late


@app.task
def render(page):
    before = signal.signal(signal.SIGALRM, late)
    try:
        return page * 2
    finally:
        signal.signal(signal.SIGALRM, before)
