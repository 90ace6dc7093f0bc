import contextvars
import time

from celery import Celery
from celery.signals import task_prerun

app = Celery("tenant_stays")

tenant = contextvars.ContextVar("tenant", default="public")


@task_prerun.connect
def enter_tenant(task=None, **_):
    wanted = (task.request.headers or {}).get("tenant") or getattr(task.request, "tenant", None)
    if wanted:
        tenant.set(wanted)


@app.task
def schema(table):
    time.sleep(0.05)
    return f"{tenant.get()}.{table}"
