import os
import pathlib
import time

from celery import Celery

app = Celery("solver")


@app.task
def solve(model):
    folder = pathlib.Path(os.environ["CASE_DIR"]) / f"solve.{os.getpid()}"
    folder.mkdir()
    try:
        time.sleep(0.5)
        return model
    finally:
        folder.rmdir()
