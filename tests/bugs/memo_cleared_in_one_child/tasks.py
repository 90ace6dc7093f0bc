import functools
import os
from pathlib import Path

from celery import Celery

app = Celery("rates")
FILE = Path(os.environ["CASE_DIR"]) / "rate.txt"


@functools.lru_cache(maxsize=None)
def rate():
    return FILE.read_text() if FILE.exists() else "1.0"


@app.task
def quote(amount):
    return f"{amount} at {rate()}"


@app.task
def new_rate(value):
    FILE.write_text(value)
    rate.cache_clear()
