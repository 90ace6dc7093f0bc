import time

from celery import Celery

app = Celery("feeds")


def fetch(seconds):
    time.sleep(seconds)
    return None


@app.task
def poll(attempts):
    for _ in range(attempts):
        try:
            page = fetch(0.7)
        except BaseException:
            continue
        if page is not None:
            return page
    return "nothing"
