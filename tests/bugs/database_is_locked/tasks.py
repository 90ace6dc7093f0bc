import os
import sqlite3
import time
from contextlib import closing

from celery import Celery

app = Celery("ledger")

PATH = os.path.join(os.environ["CASE_DIR"], "ledger.db")


def connect():
    connection = sqlite3.connect(PATH, timeout=0.5)
    connection.execute("CREATE TABLE IF NOT EXISTS entries (amount INTEGER)")
    return closing(connection)


@app.task
def book(amount):
    with connect() as connection, connection:
        connection.execute("INSERT INTO entries VALUES (?)", (amount,))
        time.sleep(0.15)  # asks the bank
    return amount
