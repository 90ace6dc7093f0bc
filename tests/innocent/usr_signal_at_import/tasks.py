import collections
import logging
import signal
import threading
import time

from celery import Celery

app = Celery("shop")
logger = logging.getLogger(__name__)
_calls = collections.Counter()
_calls_lock = threading.Lock()


def dump_calls(signum, frame):
    logger.warning("calls so far: %s", dict(_calls))


if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGRTMIN, dump_calls)


@app.task
def restock(item):
    with _calls_lock:
        _calls["restock"] += 1
    time.sleep(0.02)
    return item.upper()
