import os
import tempfile

from celery import Celery

app = Celery("pdf")


@app.task
def stamp(text):
    _, path = tempfile.mkstemp(suffix=".pdf")
    with open(path, "w") as file:
        file.write(text)
    size = os.path.getsize(path)
    os.remove(path)
    return size
