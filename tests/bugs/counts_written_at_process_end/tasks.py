import json
import os

from celery import Celery
from celery.signals import worker_process_shutdown

app = Celery("metrics")
counts = {}


@app.task
def visit(page):
    counts[page] = counts.get(page, 0) + 1


@worker_process_shutdown.connect
def write(pid=None, **_):
    with open(os.path.join(os.environ["CASE_DIR"], f"counts-{pid}.json"), "w") as file:
        json.dump(counts, file)
