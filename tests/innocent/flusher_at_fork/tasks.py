import os
import queue
import threading

from celery import Celery

app = Celery("shop")

events = None


def flush(pending):
    while True:
        pending.get().set()


def start_flusher():
    global events
    events = queue.Queue()
    threading.Thread(target=flush, args=(events,), daemon=True).start()


start_flusher()
os.register_at_fork(after_in_child=start_flusher)


@app.task
def track(name):
    flushed = threading.Event()
    events.put(flushed)
    return flushed.wait(3)
