import threading
import time

from celery import Celery

app = Celery("billing")


class Client:
    def __init__(self):
        self.lock = threading.RLock()
        self.token = "t0"
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self):
        with self.lock:
            time.sleep(3)
            self.token = "t1"

    def charge(self, amount):
        with self.lock:
            return [self.token, amount]


client = Client()


@app.task
def charge(amount):
    return client.charge(amount)
