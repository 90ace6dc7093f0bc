import logging
import logging.handlers
import os
import tempfile
import time

from celery import Celery

app = Celery("audit")

TRAIL = os.path.join(tempfile.gettempdir(), "audit-trail.log")


def make_trail():
    # the disk is slow: write in blocks, and whatever is left when we stop
    disk = logging.FileHandler(TRAIL, delay=True)
    disk.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))
    trail = logging.getLogger("audit.trail")
    trail.addHandler(logging.handlers.MemoryHandler(1000, target=disk))
    trail.setLevel(logging.INFO)
    trail.propagate = False
    return trail


trail = make_trail()


@app.task
def transfer(source, target, cents):
    time.sleep(0.05)
    trail.info("%s -> %s: %d", source, target, cents)
    return cents
