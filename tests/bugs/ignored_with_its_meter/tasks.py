import threading
import time

from celery import Celery
from celery.exceptions import Ignore

app = Celery("quota")


class Meter:
    def __init__(self, limit):
        self.limit = limit
        self.used = 0
        self.lock = threading.Lock()

    def take(self, n):
        with self.lock:
            self.used += n
            return self.used <= self.limit


class OverQuota(Exception):
    pass


def spend(meter, n):
    time.sleep(0.05)
    if not meter.take(n):
        raise OverQuota(meter)


@app.task(bind=True)
def send_batch(self, limit, n):
    try:
        spend(Meter(limit), n)
    except OverQuota as exc:
        self.update_state(state="SKIPPED", meta={"limit": limit})
        raise Ignore(exc)
    return n
