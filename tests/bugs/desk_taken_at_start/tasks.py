import threading
import time

from celery import Celery
from celery.signals import worker_init

app = Celery("bookings")

DESK = threading.BoundedSemaphore(1)  # the partner allows us one conversation at a time


def first_sync():
    with DESK:
        time.sleep(2.5)


@worker_init.connect
def start_first_sync(**_):
    """Fetches yesterday's bookings; tasks wait until that is done."""
    threading.Thread(target=first_sync, daemon=True).start()


@app.task
def book(room):
    if not DESK.acquire(timeout=4):
        raise TimeoutError("the partner's desk is busy")
    try:
        time.sleep(0.1)
        return f"booked {room}"
    finally:
        DESK.release()
