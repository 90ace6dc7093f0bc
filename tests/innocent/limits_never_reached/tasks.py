import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("limits")
app.conf.task_time_limit = 30


@app.task(soft_time_limit=5, time_limit=10)
def fetch(n):
    try:
        time.sleep(0.05)
    except SoftTimeLimitExceeded:
        return None
    return n
