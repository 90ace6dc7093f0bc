import threading
import time

from celery import Celery

app = Celery("stock")


class OwnedLock:
    def __init__(self):
        self._lock = threading.Lock()
        self.owner = None
        self.depth = 0

    def __enter__(self):
        me = threading.get_ident()
        if self.owner != me:
            self._lock.acquire()
            self.owner = me
        self.depth += 1

    def __exit__(self, *exc):
        self.depth -= 1
        if self.depth == 0:
            self.owner = None
            self._lock.release()


guard = OwnedLock()
drawers = {"bolts": 100}


def take(item, count):
    with guard:
        left = drawers[item]
        time.sleep(0.1)
        drawers[item] = left - count


@app.task
def rehearse(item, counts):
    """How many would be taken; the drawer is as it was afterwards."""
    with guard:
        before = drawers[item]
        for count in counts:
            take(item, count)
        taken = before - drawers[item]
        drawers[item] = before
        return taken
