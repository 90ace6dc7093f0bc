import os
import sqlite3

from celery import Celery
from celery.signals import worker_init

app = Celery("orders")


class Ledger:
    def __init__(self, path):
        self.path = path
        self.db = None

    def open(self, **_):
        self.db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.db.execute("CREATE TABLE IF NOT EXISTS entry (order_id INTEGER, amount INTEGER)")

    def add(self, order_id, amount):
        self.db.execute("INSERT INTO entry VALUES (?, ?)", (order_id, amount))


ledger = Ledger(os.path.join(os.environ["CASE_DIR"], "ledger.db"))
worker_init.connect(ledger.open)


@app.task
def book(order_id, amount):
    ledger.add(order_id, amount)
    return order_id
