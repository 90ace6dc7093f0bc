import contextlib
import os
import threading
import time

from celery import Celery

app = Celery("calendar")
clock = threading.Lock()


@contextlib.contextmanager
def zone(name):
    with clock:
        before = os.environ.get("TZ")
        os.environ["TZ"] = name
        time.tzset()
        try:
            yield
        finally:
            if before is None:
                del os.environ["TZ"]
            else:
                os.environ["TZ"] = before
            time.tzset()


@app.task
def midnight(name, seconds):
    with zone(name):
        time.sleep(0.15)
        return time.localtime(seconds).tm_hour
