import threading
import time

from celery import Celery

app = Celery("catalog")
lock = threading.Lock()
catalog = {}


def reload():
    while True:
        with lock:
            catalog["bolt"] = 1
            time.sleep(0.3)
        time.sleep(0.001)


threading.Thread(target=reload, daemon=True).start()


@app.task
def find(item):
    if lock.acquire(timeout=2):
        try:
            return catalog.get(item)
        finally:
            lock.release()
    return None
