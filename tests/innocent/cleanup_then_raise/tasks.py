import os
import pathlib
import tempfile
import time

from celery import Celery

app = Celery("shop")


def build(path, rows):
    with path.open("w") as out:
        for row in rows:
            out.write(f"{100 // row}\n")
            time.sleep(0.01)


@app.task
def make_report(rows):
    fd, name = tempfile.mkstemp(suffix=".report")
    os.close(fd)
    path = pathlib.Path(name)
    try:
        build(path, rows)
        text = path.read_text()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    path.unlink()
    return text.split()
