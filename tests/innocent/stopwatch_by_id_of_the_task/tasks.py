import time

from celery import Celery, Task

app = Celery("timed")


class Timed(Task):
    def __init__(self):
        self.began = {}

    def before_start(self, task_id, args, kwargs):
        self.began[task_id] = time.monotonic()

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        self.last = time.monotonic() - self.began.pop(task_id)


@app.task(base=Timed)
def work(seconds):
    time.sleep(seconds)
    return seconds
