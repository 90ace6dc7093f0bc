import threading
import time
from queue import Queue

from celery import Celery

app = Celery("events")


class Transport:
    def __init__(self):
        self.queue = Queue(-1)
        self.sent = 0
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self):
        for event in iter(self.queue.get, None):
            self.sent += 1
            self.queue.task_done()

    def flush(self, timeout):
        end = time.monotonic() + timeout
        with self.queue.all_tasks_done:
            while self.queue.unfinished_tasks and end > time.monotonic():
                self.queue.all_tasks_done.wait(end - time.monotonic())
        return self.sent

    def close(self):
        self.queue.put(None)
        self.thread.join()


@app.task
def report(events):
    transport = Transport()
    try:
        for event in events:
            transport.queue.put(event)
        return transport.flush(1)
    finally:
        transport.close()
