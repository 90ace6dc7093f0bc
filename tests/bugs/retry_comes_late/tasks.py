import time

from celery import Celery

app = Celery("webhooks")


@app.task
def big(seconds):
    time.sleep(seconds)


@app.task(bind=True, max_retries=2)
def deliver(self, url):
    if self.request.retries == 0:
        big.delay(1.9)
        raise self.retry(countdown=0.3)
    return url
