import threading
import time

from celery import Celery

app = Celery("analytics")

batch, sent = [], []
one_at_a_time = threading.Lock()


@app.task
def track(size):
    batch.append(size)
    waiting = sorted(batch)
    if sum(waiting) > 5:
        with one_at_a_time:
            sent.extend(batch)
            batch.clear()
            time.sleep(0.05)  # waits for the answer
    return size
