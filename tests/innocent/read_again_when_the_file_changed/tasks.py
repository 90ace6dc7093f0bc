import json
import os
import time

from celery import Celery

app = Celery("tasks")


class Table:
    def __init__(self):
        self.known = None, None

    def read(self, path):
        status = os.stat(path)
        stamp = path, status.st_ino, status.st_mtime_ns, status.st_size
        known, rows = self.known
        if known != stamp:
            with open(path) as file:
                rows = json.load(file)
            self.known = stamp, rows
        return rows


RATES = Table()


@app.task
def convert(path, amount, currency):
    time.sleep(0.05)
    return amount * RATES.read(path)[currency]
