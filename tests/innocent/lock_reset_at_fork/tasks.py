import os
import threading
import time

from celery import Celery

app = Celery("shop")
_lock = threading.RLock()
_recent = {}


def _fresh():
    global _lock
    _lock = threading.RLock()
    _recent.clear()


os.register_at_fork(after_in_child=_fresh)


@app.task
def remember(key, value):
    with _lock:
        time.sleep(0.02)
        if len(_recent) >= 20:
            _recent.pop(next(iter(_recent)))
        _recent[key] = value
        return _recent[key]
