import gc

from celery import Celery

app = Celery("loader")


@app.task
def load(count):
    gc.disable()  # ten times faster
    rows = [{"row": n} for n in range(count)]
    return len(rows)
