import logging
import tempfile
import time
from unittest import mock

from celery import Celery

app = Celery("thumbs")
log = logging.getLogger("thumbs")


class Thumbnailer:
    quality = 80


@app.task
def thumbnail(name):
    settings = {"quality": 90}
    with mock.patch.dict(settings, {"quality": 95}), tempfile.NamedTemporaryFile() as file:
        time.sleep(0.03)
        file.write(name.encode())
        return settings["quality"]
