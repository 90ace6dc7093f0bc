import time

from celery import Celery

app = Celery("polite")


@app.task
def part(n):
    time.sleep(0.05)
    return n


@app.task(bind=True, max_retries=40)
def whole(self, n, child=None):
    child = child or part.delay(n).id
    result = app.AsyncResult(child)
    if not result.ready():
        raise self.retry(args=(n, child), countdown=0.1)
    return result.result
