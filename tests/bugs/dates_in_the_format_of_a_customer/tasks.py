import contextlib
import datetime
import json
import time

from celery import Celery

app = Celery("reports")


@contextlib.contextmanager
def dates_as(pattern):
    original = json.JSONEncoder.default
    json.JSONEncoder.default = lambda encoder, value: value.strftime(pattern)
    try:
        yield
    finally:
        json.JSONEncoder.default = original


@app.task
def report(pattern, seconds):
    with dates_as(pattern):
        time.sleep(seconds)  # the figures are fetched
        return json.dumps({"day": datetime.date(2024, 2, 1)})
