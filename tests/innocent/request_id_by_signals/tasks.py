import time
from contextvars import ContextVar

from celery import Celery
from celery.signals import task_postrun, task_prerun

app = Celery("web")
REQUEST = ContextVar("request", default=None)


@task_prerun.connect
def begin(task_id, **_):
    REQUEST.set(task_id)


@task_postrun.connect
def end(**_):
    REQUEST.set(None)


@app.task(bind=True)
def handle(self):
    time.sleep(0.02)
    return REQUEST.get() == self.request.id
