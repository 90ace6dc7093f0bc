import os
import tempfile

from celery import Celery

app = Celery("uploads")


@app.task
def pack(text):
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w", dir=folder) as file:
        file.write(text)
        file.flush()
        return os.path.getsize(file.name)


@app.task
def export(text):
    fd, path = tempfile.mkstemp(suffix=".txt")
    with open(fd, "w") as file:
        file.write(text)
    return path


@app.task
def read(path):
    try:
        with open(path) as file:
            return file.read()
    finally:
        os.unlink(path)
