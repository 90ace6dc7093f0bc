"""A Celery application whose tests pass under prefork and fail under other pools: each task has a reason to."""

import ctypes
import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("reports")
pages = []


@app.task(soft_time_limit=0.3)
def render(seconds):
    """Render a report, or as much of it as the soft time limit allows."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "partly rendered"
    return "rendered"


@app.task
def import_rows(rows):
    """Import rows, and leave the process if there are none, as the script that this once was did."""
    if not rows:
        raise SystemExit("no rows")
    return len(rows)


@app.task
def collect(page):
    """Fetch a page and keep it in a global of the module: each process has a global of its own."""
    time.sleep(0.1)
    pages.append(page)
    return len(pages)


@app.task
def query(seconds):
    """Wait for a database whose driver is written in C, and so knows nothing of greenlets."""
    ctypes.CDLL(None).usleep(int(seconds * 1_000_000))
