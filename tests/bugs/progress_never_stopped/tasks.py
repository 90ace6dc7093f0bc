import threading
import time

from celery import Celery

app = Celery("imports")


class Progress(threading.Thread):
    def __init__(self, rows):
        super().__init__(daemon=True)
        self.rows = rows
        self.running = True

    def run(self):
        while self.running:
            time.sleep(0.1)

    def stop(self):
        self.running = False


@app.task
def load(rows):
    progress = Progress(rows)
    progress.start()
    if rows % 2 == 0:
        return rows
    progress.stop()
    return rows
