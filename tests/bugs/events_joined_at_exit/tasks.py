import atexit
import queue
import socket
import threading
import time

from celery import Celery

app = Celery("usage")

COLLECTOR = ("127.0.0.1", 1)


class Reporter:
    def __init__(self):
        self.events = queue.Queue()
        self.carrier = None
        # nothing may get lost when we stop
        atexit.register(self.events.join)

    def _carry(self):
        while True:
            event = self.events.get()
            while not self._post(event):
                time.sleep(0.5)
            self.events.task_done()

    def _post(self, event):
        try:
            with socket.create_connection(COLLECTOR, timeout=1) as conn:
                conn.sendall(event.encode())
            return True
        except OSError:
            return False

    def report(self, event):
        if self.carrier is None:
            self.carrier = threading.Thread(target=self._carry, daemon=True)
            self.carrier.start()
        self.events.put(event)


reporter = Reporter()


@app.task
def open_page(path):
    reporter.report(f"open {path}")
    time.sleep(0.05)
    return path.upper()
