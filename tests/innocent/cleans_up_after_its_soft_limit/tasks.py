import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("cleanup")


@app.task(soft_time_limit=1)
def convert(seconds):
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(0.02)
        return "done"
    except SoftTimeLimitExceeded:
        time.sleep(0.6)
        return "cleaned up"
    except Exception:
        return "broken"


@app.task(soft_time_limit=1)
def convert_or_fail(seconds):
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.02)
    except Exception:
        time.sleep(0.4)
        raise
