import os
import threading
import time
from pathlib import Path

from celery import Celery

app = Celery("exports")
SCRATCH = Path(os.environ["CASE_DIR"])


def scratch_file():
    return SCRATCH / f"export-{threading.current_thread().name}.csv"


@app.task
def export(customer):
    path = scratch_file()
    path.write_text(customer)
    time.sleep(0.25)
    return path.read_text()
