import sys
import threading
import time

from celery import Celery

app = Celery("metrics")


def original(name):
    if "gevent" in sys.modules:
        from gevent.monkey import get_original

        return get_original("threading", name)
    if "eventlet" in sys.modules:
        from eventlet import patcher

        return getattr(patcher.original("threading"), name)
    return getattr(threading, name)


# Held for a moment only, and shared with a thread of a library in C.
lock = original("Lock")()
cache = original("local")()
counts = {}


@app.task
def count(name):
    with lock:
        counts[name] = counts.get(name, 0) + 1
    cache.name = name
    seen = cache.name
    time.sleep(0.02)
    return seen
