import time

from celery import Celery, Task

app = Celery("etl")


class Load(Task):
    name = "etl.load"

    def run(self, source, pages):
        self.rows = []
        for page in range(pages):
            time.sleep(0.04)
            self.rows.append((source, page))
        return len(self.rows)


load = app.register_task(Load())
