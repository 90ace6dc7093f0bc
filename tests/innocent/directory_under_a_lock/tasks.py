import contextlib
import os
import threading
import time
from pathlib import Path

from celery import Celery

app = Celery("builds")
DIRECTORY = threading.Lock()
FOLDER = Path(os.environ["CASE_DIR"])


@app.task
def build(name):
    folder = FOLDER / name
    folder.mkdir(exist_ok=True)
    with DIRECTORY, contextlib.chdir(folder):
        time.sleep(0.03)
        Path("result.txt").write_text(name)
    return (folder / "result.txt").read_text()
