import time
import warnings

from celery import Celery

app = Celery("models")


@app.task
def fit(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solver is noisy
        time.sleep(0.1)
        return rows


@app.task
def score():
    for _ in range(4):
        time.sleep(0.05)
        warnings.warn("old model", UserWarning, stacklevel=1)
    return "scored"
