import time

from celery import Celery, Task

app = Celery("tasks")


class Timed(Task):
    abstract = True

    def before_start(self, task_id, args, kwargs):
        self.request.started = time.monotonic()

    @property
    def spent(self):
        return time.monotonic() - self.request.started


@app.task(base=Timed, bind=True)
def build(self, pause):
    time.sleep(pause)
    return pause - 0.05 < self.spent < pause + 1
