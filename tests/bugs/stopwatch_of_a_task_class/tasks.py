import time

from celery import Celery, Task

app = Celery("timed")
durations = {}


class Timed(Task):
    began = None

    def before_start(self, task_id, args, kwargs):
        self.began = time.monotonic()

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        durations[task_id] = time.monotonic() - self.began


@app.task(base=Timed)
def work(seconds):
    time.sleep(seconds)
    return seconds
