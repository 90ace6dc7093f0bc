import time

from celery import Celery

app = Celery("reminders")


@app.task
def archive(seconds):
    time.sleep(seconds)


@app.task
def remind(who):
    return who
