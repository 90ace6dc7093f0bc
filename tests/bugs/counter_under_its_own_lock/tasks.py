import multiprocessing
import time

from celery import Celery

app = Celery("counter")

hits = multiprocessing.Value("i", 0)


@app.task
def hit():
    with hits.get_lock():
        seen = hits.value
        time.sleep(0.1)  # writes it down
        hits.value = seen + 1
    return seen + 1
