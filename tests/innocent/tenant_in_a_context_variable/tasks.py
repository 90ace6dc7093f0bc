import contextvars
import threading
import time

from celery import Celery

app = Celery("billing")
tenant = contextvars.ContextVar("tenant", default=None)
local = threading.local()


@app.task
def invoice(name):
    token = tenant.set(name)
    local.name = name
    try:
        time.sleep(0.1)
        return tenant.get() == local.name == name
    finally:
        tenant.reset(token)
