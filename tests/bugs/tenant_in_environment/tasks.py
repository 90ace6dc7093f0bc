import os
import time

from celery import Celery

app = Celery("exports")


def bucket():
    return "exports-" + os.environ.get("TENANT", "nobody")


@app.task
def export(tenant, nap):
    os.environ["TENANT"] = tenant
    try:
        time.sleep(nap)  # reads the rows
        return bucket()
    finally:
        os.environ.pop("TENANT", None)
