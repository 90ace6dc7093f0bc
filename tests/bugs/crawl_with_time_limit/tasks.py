import time

from celery import Celery

app = Celery("crawler")


@app.task(time_limit=1)
def crawl(pages):
    for _ in range(pages):
        time.sleep(0.2)
    return pages
