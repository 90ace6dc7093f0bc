import os
import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("uploads")


def part_file(name):
    return os.path.join(os.environ["CASE_DIR"], name + ".part")


@app.task
def upload(name, seconds):
    with open(part_file(name), "w") as out:
        out.write("half")
    try:
        time.sleep(seconds)
        os.rename(part_file(name), part_file(name) + ".done")
    except SoftTimeLimitExceeded:
        os.remove(part_file(name))
        raise


def cancel(result):
    result.revoke(terminate=True, signal="SIGUSR1")
