import signal
import time

from celery import Celery

app = Celery("convert")


class Late(Exception):
    pass


def late(number, frame):
    raise Late


@app.task
def convert(name, seconds):
    try:
        signal.signal(signal.SIGALRM, late)
    except ValueError:  # a thread
        return name
    signal.setitimer(signal.ITIMER_REAL, 5)
    try:
        time.sleep(seconds)
        return name
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
