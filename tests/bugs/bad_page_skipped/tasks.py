import time

from celery import Celery

app = Celery("mirror")


def download(page):
    time.sleep(0.8)
    return page


@app.task(soft_time_limit=1)
def mirror(pages):
    got = []
    for page in range(pages):
        try:
            got.append(download(page))
        except Exception:
            continue
    return len(got)
