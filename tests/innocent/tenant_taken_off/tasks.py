import contextvars
import time
from contextlib import contextmanager

from celery import Celery, Task

app = Celery("tenant_taken_off")

tenant = contextvars.ContextVar("tenant", default="public")


@contextmanager
def acting_for(name):
    token = tenant.set(name)
    try:
        yield
    finally:
        tenant.reset(token)


class Tenanted(Task):
    def __call__(self, *args, **kwargs):
        with acting_for(kwargs.pop("tenant", "public")):
            return super().__call__(*args, **kwargs)


@app.task(base=Tenanted, typing=False)
def schema(table):
    time.sleep(0.2)
    return f"{tenant.get()}.{table}"
