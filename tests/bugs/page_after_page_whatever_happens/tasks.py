import time

from celery import Celery

app = Celery("pages")


class Index:
    def __init__(self):
        self.rows = []

    def fetch(self, page):
        time.sleep(0.8)
        self.rows.append(page)


@app.task(soft_time_limit=1, time_limit=60)
def build_index(pages):
    index = Index()
    for page in range(pages):
        ready = False
        try:
            index.fetch(page)
            ready = True
        finally:
            if not ready:
                index.rows.append(None)
            continue
    return len(index.rows)
