import threading
import time

from celery import Celery

app = Celery("library")


class Library:
    def __init__(self):
        self.index_lock = threading.RLock()
        self.store_lock = threading.RLock()
        self.index = {}
        self.store = {}

    def add(self, title, text):
        with self.store_lock:
            self.store[title] = text
            time.sleep(0.2)  # written to the disk
            self.note(title)

    def note(self, title):
        with self.index_lock:
            self.index[title] = len(self.store.get(title, ""))

    def compact(self):
        self.index_lock.acquire()
        try:
            titles = list(self.index)
            time.sleep(0.2)  # sorted
            self.store_lock.acquire()
            try:
                return [self.store[title] for title in titles]
            finally:
                self.store_lock.release()
        finally:
            self.index_lock.release()


library = Library()


@app.task
def add(title, text):
    library.add(title, text)


@app.task
def compact():
    return len(library.compact())
