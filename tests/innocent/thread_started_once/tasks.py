import os
import queue
import threading

from celery import Celery

app = Celery("events")
waiting = queue.Queue()
lock = threading.Lock()
started = set()


def flush():
    while True:
        waiting.get().set()


@app.task
def emit(number):
    with lock:
        if os.getpid() not in started:
            threading.Thread(target=flush, daemon=True).start()
            started.add(os.getpid())
    done = threading.Event()
    waiting.put(done)
    return done.wait(5)
