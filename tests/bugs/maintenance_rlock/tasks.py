import threading
import time

from celery import Celery

app = Celery("shop")
MAINTENANCE = threading.RLock()


@app.task
def begin_maintenance():
    return MAINTENANCE.acquire(timeout=2)


@app.task
def migrate(table):
    time.sleep(0.2)
    return table


@app.task
def end_maintenance():
    MAINTENANCE.release()
    return True
