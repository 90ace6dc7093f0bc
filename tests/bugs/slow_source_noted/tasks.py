import signal
import time
from contextlib import ContextDecorator

from celery import Celery, current_task

app = Celery("sync")
overdue = set()


class watch(ContextDecorator):
    def __init__(self, seconds):
        self.seconds = seconds

    def ring(self, signum, frame):
        overdue.add(current_task.request.id if current_task else "?")

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.ring)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *exc_info):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


@watch(0.2)
def pull(source, seconds):
    time.sleep(seconds)
    return source


@app.task(bind=True)
def sync(self, source, seconds):
    pull(source, seconds)
    try:
        return self.request.id in overdue
    finally:
        overdue.discard(self.request.id)
