import fcntl
import os
import threading
import time
from pathlib import Path

from celery import Celery

app = Celery("tickets")

LAST = Path(os.environ["CASE_DIR"], "last-ticket")
# That of the file keeps other processes out, this one the tasks of the same process.
MINE = threading.Lock()


@app.task
def ticket(customer):
    with MINE, LAST.open("a+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        file.seek(0)
        number = int(file.read() or 0) + 1
        time.sleep(0.02)  # tells the till
        file.truncate(0)
        file.write(str(number))
    time.sleep(0.1)  # prints it
    return number


@app.task
def last():
    descriptor = os.open(LAST, os.O_RDONLY | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        time.sleep(0.05)
        return int(os.read(descriptor, 20) or 0)
    finally:
        os.close(descriptor)
