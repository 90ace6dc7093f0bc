import sqlite3
import threading
import time

from celery import Celery

app = Celery("one_transaction")


class Declined(Exception):
    pass


class Store:
    def __init__(self):
        self._open = {}
        self._lock = threading.Lock()

    def __getitem__(self, path):
        with self._lock:
            if path not in self._open:
                db = sqlite3.connect(path, check_same_thread=False)
                db.execute("CREATE TABLE IF NOT EXISTS orders (name TEXT)")
                db.commit()
                self._open[path] = db
            return self._open[path]


store = Store()


def charge(card, seconds):
    time.sleep(seconds)
    if card == "expired":
        raise Declined(card)


@app.task
def order(path, name, card, seconds=0.1):
    with store[path] as db:
        db.execute("INSERT INTO orders VALUES (?)", (name,))
        charge(card, seconds)
    return name


@app.task
def orders(path):
    return sorted(name for (name,) in store[path].execute("SELECT name FROM orders"))
