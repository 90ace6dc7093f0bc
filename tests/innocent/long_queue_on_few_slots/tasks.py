import time

from celery import Celery, group

app = Celery("queue")


@app.task
def work(n):
    time.sleep(0.02)
    return n


@app.task
def start(n):
    results = group(work.s(i) for i in range(n)).apply_async()
    return [result.id for result in results]
