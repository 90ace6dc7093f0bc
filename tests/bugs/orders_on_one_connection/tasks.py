import functools
import os
import pathlib
import sqlite3
import time

from celery import Celery

app = Celery("orders")


class Shop:
    def __init__(self, path):
        self.path = path

    @functools.cached_property
    def db(self):
        db = sqlite3.connect(self.path, check_same_thread=False, timeout=8)
        db.execute("CREATE TABLE IF NOT EXISTS line (customer TEXT, item TEXT, count INTEGER)")
        db.commit()
        return db


shop = Shop(pathlib.Path(os.environ["CASE_DIR"]) / "shop.db")


def in_stock(count):
    time.sleep(0.15)
    return count < 100


@app.task
def order(customer, items):
    with shop.db as db:
        for item, count in items.items():
            db.execute("INSERT INTO line VALUES (?, ?, ?)", (customer, item, count))
            if not in_stock(count):
                raise ValueError(f"{item} is out of stock")
    return db.execute("SELECT count(*) FROM line WHERE customer = ?", (customer,)).fetchone()[0]
