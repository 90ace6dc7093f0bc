import sys
import threading
import time

from celery import Celery

app = Celery("stock")


def make_lock():
    """A lock that also works in the threads of the C library."""
    if "gevent" in sys.modules:
        from gevent.monkey import get_original

        return get_original("_thread", "RLock")()
    if "eventlet" in sys.modules:
        from eventlet import patcher

        return patcher.original("threading").RLock()
    return threading.RLock()


lock = make_lock()
inside = []


def reserve(article):
    with lock:
        inside.append(article)
        time.sleep(0.1)
        alone = len(inside) == 1
        inside.remove(article)
    return alone


@app.task
def order(article):
    return reserve(article)
