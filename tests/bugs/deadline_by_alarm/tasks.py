import signal
import time

from celery import Celery

app = Celery("pages")


class TooSlow(Exception):
    pass


def give_up(number, frame):
    raise TooSlow


@app.task
def fetch(seconds):
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(1)
    try:
        time.sleep(seconds)  # the page
        return "page"
    except TooSlow:
        return "too slow"
    finally:
        signal.alarm(0)
