import contextlib
import os
import time

from celery import Celery

app = Celery("letters")


@contextlib.contextmanager
def language(code):
    before = os.environ.get("LANGUAGE")
    os.environ.update(LANGUAGE=code)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("LANGUAGE", None)
        else:
            os.environ["LANGUAGE"] = before


@app.task
def letter(code, nap):
    with language(code):
        time.sleep(nap)
        return os.environ.get("LANGUAGE")
