import os
import time

from celery import Celery

app = Celery("tasks")


def claimed(folder, number):
    try:
        os.close(os.open(os.path.join(folder, "sent-%d" % number), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


@app.task
def remind(folder, number):
    if not claimed(folder, number):
        return 0
    time.sleep(0.1)  # the mail goes out
    return 1
