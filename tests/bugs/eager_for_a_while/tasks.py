import time

from celery import Celery

app = Celery("orders")


@app.task
def reserve(item):
    return item


@app.task
def import_orders():
    app.conf.task_always_eager = True  # so that the subtasks are done when this returns
    try:
        reserve.delay("a")
        time.sleep(0.3)
    finally:
        app.conf.task_always_eager = False


@app.task
def order(item):
    time.sleep(0.1)
    return type(reserve.delay(item)).__name__
