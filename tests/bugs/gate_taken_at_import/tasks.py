"""Nothing may be delivered before the worker is fully up, so the gate starts locked."""
import threading
import time

from celery import Celery
from celery.signals import worker_ready

app = Celery("deliveries")

gate = threading.Lock()
gate.acquire()


@worker_ready.connect
def open_gate(**kwargs):
    gate.release()


def hand_over(parcel):
    time.sleep(0.05)
    return f"{parcel} delivered"


@app.task
def deliver(parcel):
    if not gate.acquire(timeout=2):     # one at a time
        raise TimeoutError(f"gate stays shut for {parcel}")
    try:
        return hand_over(parcel)
    finally:
        gate.release()
