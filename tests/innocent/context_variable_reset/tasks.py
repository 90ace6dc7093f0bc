import time
from contextvars import ContextVar

from celery import Celery

app = Celery("tenants")
TENANT = ContextVar("tenant")


@app.task
def report(tenant):
    token = TENANT.set(tenant)
    try:
        time.sleep(0.05)
        return f"{TENANT.get()}.orders"
    finally:
        TENANT.reset(token)
