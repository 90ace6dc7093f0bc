import time

from celery import Celery
from celery.signals import task_received

app = Celery("latency")

since = {}


@task_received.connect
def note(request=None, **_):
    since[request.id] = time.monotonic()


@app.task(bind=True)
def resize(self, image):
    return time.monotonic() - since[self.request.id] < 60
