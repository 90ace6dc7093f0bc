import threading
import time

from celery import Celery

app = Celery("imports")


def beat(done):
    while not done.wait(0.05):
        pass


@app.task
def load(rows):
    done = threading.Event()
    thread = threading.Thread(target=beat, args=(done,))
    thread.start()
    try:
        time.sleep(0.02)
        return rows
    finally:
        done.set()
        if rows % 2:
            thread.join()
