import time

from celery import Celery
from celery.contrib.abortable import AbortableTask

app = Celery("exports")


@app.task(bind=True, base=AbortableTask)
def export(self, rows):
    for row in range(rows):
        if self.is_aborted():
            return "aborted"
        time.sleep(0.05)
    return "complete"
