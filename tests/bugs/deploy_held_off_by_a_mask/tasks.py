import contextlib
import signal
import time

from celery import Celery

app = Celery("payments")


@contextlib.contextmanager
def undisturbed(*signals):
    """No deployment (SIGTERM, SIGHUP) between the two halves; the mask is one of this thread."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@app.task
def transfer(amount, wait):
    with undisturbed(signal.SIGTERM, signal.SIGHUP):
        taken = -amount
        time.sleep(wait)
        given = amount
    return taken + given
