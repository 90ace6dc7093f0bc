import multiprocessing
import time

from celery import Celery

app = Celery("stock")

# Tasks may run in several processes.
GUARD = multiprocessing.Lock()


@app.task
def take(article):
    with GUARD:
        time.sleep(0.2)
    return article
