import os
import pathlib
import queue
import threading
import time
from concurrent.futures import Future

from celery import Celery

app = Celery("collector")


class Batcher(threading.Thread):
    """Writes what the tasks hand over, and tells them when it is safe."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.inbox = queue.Queue()

    def run(self):
        while True:
            row, written = self.inbox.get()
            with self.path.open("a") as file:
                file.write(row + "\n")
            time.sleep(0.02)
            written.set_result(len(row))

    def add(self, row):
        written = Future()
        self.inbox.put((row, written))
        return written


batcher = Batcher(pathlib.Path(os.environ["CASE_DIR"]) / "rows.txt")
batcher.start()


@app.task
def collect(row):
    return batcher.add(row).result(timeout=2)
