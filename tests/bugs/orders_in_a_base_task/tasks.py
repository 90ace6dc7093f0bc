import os
import sqlite3
import time
from contextlib import contextmanager
from functools import cached_property

from celery import Celery, Task

app = Celery("orders")


class StoreTask(Task):
    abstract = True

    @cached_property
    def db(self):
        db = sqlite3.connect(os.path.join(os.environ["CASE_DIR"], "orders.db"), check_same_thread=False)
        db.execute("create table if not exists orders (id text)")
        return db

    @contextmanager
    def unit_of_work(self):
        try:
            yield self.db
        except BaseException:
            self.db.rollback()
            raise
        self.db.commit()


@app.task(base=StoreTask, bind=True)
def place(self, order, amount):
    with self.unit_of_work() as db:
        db.execute("insert into orders values (?)", [order])
        time.sleep(0.3)  # ask the bank
        if amount > 100:
            raise ValueError("declined")


@app.task(base=StoreTask, bind=True)
def placed(self, order):
    return self.db.execute("select count(*) from orders where id = ?", [order]).fetchone()[0]
