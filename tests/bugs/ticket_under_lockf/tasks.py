import fcntl
import os
import time
from pathlib import Path

from celery import Celery

app = Celery("tickets")

LAST = Path(os.environ["CASE_DIR"], "last-ticket")


@app.task
def ticket(customer):
    with LAST.open("a+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or 0) + 1
        time.sleep(0.1)  # tells the till
        file.truncate(0)
        file.write(str(number))
    return number
