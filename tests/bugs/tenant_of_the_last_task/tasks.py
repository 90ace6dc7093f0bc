from contextvars import ContextVar

from celery import Celery

app = Celery("tenants")
TENANT = ContextVar("tenant", default=None)


def table(name):
    return f"{TENANT.get() or 'public'}.{name}"


@app.task
def report(tenant):
    TENANT.set(tenant)
    return table("orders")


@app.task
def cleanup():
    return table("orders")
