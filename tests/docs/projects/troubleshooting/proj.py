"""The application of the page "When things go wrong"."""

import time

from celery import Celery
from celery.exceptions import Ignore

app = Celery("proj", broker="redis://localhost")


@app.task
def nap(seconds):
    time.sleep(seconds)


@app.task
def stubborn(timeout):
    time.sleep(timeout)


@app.task
def forget():
    raise SystemExit(1)


@app.task
def ignored():
    raise Ignore
