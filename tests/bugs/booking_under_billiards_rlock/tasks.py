import pathlib
import time

from billiard import get_context
from celery import Celery

app = Celery("bookings")

counter_lock = get_context().RLock()


class Counter:
    def __init__(self, path):
        self.path = pathlib.Path(path)

    def value(self):
        with counter_lock:
            return int(self.path.read_text() or 0)

    def increase(self):
        with counter_lock:
            value = self.value()
            time.sleep(0.3)
            self.path.write_text(str(value + 1))
            return value + 1


@app.task
def book(path):
    return Counter(path).increase()
