import time
import warnings

from celery import Celery

app = Celery("models")


def old_api(value):
    warnings.warn("old_api is deprecated", DeprecationWarning, stacklevel=2)
    return value + 1


@app.task
def convert(value):
    time.sleep(0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        value = old_api(value)
    time.sleep(0.02)
    return value
