from multiprocessing.pool import ThreadPool

from celery import Celery

app = Celery("crawler")
workers = ThreadPool(2)


@app.task
def lengths(pages):
    return workers.map_async(len, pages).get(timeout=2)
