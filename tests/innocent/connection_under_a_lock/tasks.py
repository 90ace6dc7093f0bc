import os
import sqlite3
import threading
import time

from celery import Celery

app = Celery("payments")

database = sqlite3.connect(os.path.join(os.environ["CASE_DIR"], f"payments-{os.getpid()}.db"), check_same_thread=False)
database.execute("create table if not exists payments (number text)")
one_at_a_time = threading.Lock()


@app.task
def pay(number):
    with one_at_a_time:
        database.execute("insert into payments values (?)", (number,))
        time.sleep(0.05)  # asks the bank
        database.commit()
    time.sleep(0.1)  # sends the receipt
    return number
