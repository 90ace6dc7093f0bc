"""Letters are spooled in one directory for the whole worker.

It is named after the process that made it, which also removes it at its end.
"""
import atexit
import os
import shutil
import tempfile
import time

from celery import Celery

app = Celery("letters")

OWNER = os.getpid()
SPOOL = tempfile.mkdtemp(prefix=f"letters-{OWNER}-")


def _remove_spool():
    if os.getpid() == OWNER:            # a forked child leaves it to its parent
        shutil.rmtree(SPOOL, ignore_errors=True)


atexit.register(_remove_spool)


@app.task(bind=True)
def print_letter(self, text):
    # The pid is that of the owner in all children: the task's id is what differs.
    path = os.path.join(SPOOL, f"{OWNER}-{self.request.id}.txt")
    with open(path, "x") as out:
        out.write(text)
    try:
        time.sleep(0.03)                # the printer reads it
        with open(path) as back:
            return back.read().upper()
    finally:
        os.unlink(path)
