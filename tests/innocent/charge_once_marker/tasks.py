import os
import pathlib
import time

from celery import Celery

app = Celery("shop")


def claim(folder, key):
    try:
        fd = os.open(pathlib.Path(folder, f"{key}.claimed"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    os.close(fd)
    return True


@app.task(acks_late=True, reject_on_worker_lost=True)
def charge(folder, order):
    time.sleep(0.02)
    if not claim(folder, order):
        return "already charged"
    partial = pathlib.Path(folder, f"{order}.part")
    partial.write_text("charged")
    time.sleep(0.02)
    os.replace(partial, partial.with_suffix(".done"))
    return "charged"
