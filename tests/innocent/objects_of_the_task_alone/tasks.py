import time

from celery import Celery

app = Celery("etl")


class Load:
    def __init__(self, source):
        self.source = source
        self.rows = []
        self.headers = {}

    def run(self):
        self.headers["X"] = self.source
        time.sleep(0.1)
        self.rows.append(self.headers["X"])
        return self.rows


@app.task
def load(source):
    return Load(source).run()
