import os
import time

from billiard import current_process
from celery import Celery

app = Celery("tasks")


class Spool:
    def __init__(self, folder):
        self.path = os.path.join(folder, current_process().name + ".spool")

    def fill(self, lines):
        with open(self.path, "w") as file:
            for line in lines:
                file.write(line + "\n")
                file.flush()
                time.sleep(0.05)  # the next line is fetched

    def lines(self):
        with open(self.path) as file:
            return file.read().split()


@app.task
def collect(folder, lines):
    spool = Spool(folder)
    spool.fill(lines)
    return spool.lines()
