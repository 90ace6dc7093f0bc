import atexit
import os
import shutil
import tempfile

from celery import Celery

app = Celery("thumbnails")

scratch = None


def folder():
    global scratch
    if scratch is None:
        scratch = tempfile.mkdtemp(dir=os.environ["CASE_DIR"])
        atexit.register(shutil.rmtree, scratch)
    return scratch


@app.task
def thumbnail(name):
    with open(os.path.join(folder(), name), "w") as file:
        file.write("small")
    return name
