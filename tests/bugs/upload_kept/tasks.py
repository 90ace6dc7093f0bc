import os
from tempfile import NamedTemporaryFile

from celery import Celery

app = Celery("uploads")


@app.task
def upload(text):
    with NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write(text)
    size = os.path.getsize(file.name)
    if not size:
        os.unlink(file.name)
    return size
