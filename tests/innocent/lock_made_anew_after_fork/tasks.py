import os
import threading
import time

from celery import Celery

app = Celery("catalog")


class Catalog:
    def __init__(self):
        self.items = {"bolt": 1}
        self.made_anew()
        os.register_at_fork(after_in_child=self.made_anew)
        threading.Thread(target=self.warm, daemon=True).start()

    def made_anew(self):
        self.lock = threading.Lock()

    def warm(self):
        for _ in range(20):
            with self.lock:
                self.items["nut"] = 2
                time.sleep(0.05)

    def find(self, item):
        with self.lock:
            return self.items[item]


catalog = Catalog()


@app.task
def find(item):
    return catalog.find(item)
