import os
import sqlite3
import time

from celery import Celery

app = Celery("payments")

PATH = os.path.join(os.environ["CASE_DIR"], "payments.db")
database = None


def connection():
    global database
    if database is None:
        database = sqlite3.connect(PATH, check_same_thread=False)
        database.execute("create table if not exists payments (number text)")
    return database


@app.task
def pay(number, seconds):
    connection().execute("insert into payments values (?)", (number,))
    time.sleep(seconds)  # asks the bank
    if seconds > 0.2:
        connection().rollback()
        return "declined"
    connection().commit()
    return "paid"
