import os
import time

from celery import Celery

app = Celery("reports")


@app.task
def local_hour(zone, nap):
    """Render the start of the epoch in the tenant's zone."""
    os.environ["TZ"] = zone
    time.tzset()
    time.sleep(nap)  # fetches the rows
    return time.strftime("%Z", time.localtime(0))
