import time
import tracemalloc

from celery import Celery

app = Celery("etl")


@app.task
def load(rows, seconds):
    tracemalloc.start()
    try:
        table = [bytes(1000) for _ in range(rows)]
        time.sleep(seconds)  # sends it
        return len(table), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
