import logging
import signal
import threading
import time
from contextlib import contextmanager

from celery import Celery

app = Celery("conversions")
log = logging.getLogger(__name__)


def _expired(signum, frame):
    raise TimeoutError("conversion took too long")


def _watch(finished, seconds, label):
    while not finished.wait(seconds):
        log.warning("%s is still running", label)


@contextmanager
def deadline(seconds, label):
    if threading.current_thread() is threading.main_thread():
        previous = signal.signal(signal.SIGALRM, _expired)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
    else:
        finished = threading.Event()
        threading.Thread(target=_watch, args=(finished, seconds, label), daemon=True).start()
        yield


@app.task
def convert(document):
    with deadline(2, f"conversion of {document}"):
        time.sleep(0.05)
        return document.rsplit(".", 1)[0] + ".pdf"
