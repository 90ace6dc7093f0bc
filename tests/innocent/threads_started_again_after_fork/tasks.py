import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("events")


class Flusher:
    def __init__(self):
        self.sent = []
        self.start()
        os.register_at_fork(after_in_child=self.start)

    def start(self):
        self.waiting = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            event, done = self.waiting.get()
            self.sent.append(event)
            done.set()

    def track(self, event):
        done = threading.Event()
        self.waiting.put((event, done))
        return done.wait(5)


flusher = Flusher()
executor = ThreadPoolExecutor(2)  # not used before the fork: it has no thread yet


@app.task
def sign_up(name):
    return flusher.track(name) and executor.submit(len, name).result(timeout=5)
