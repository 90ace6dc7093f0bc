import os
import sqlite3
import threading
import time

from celery import Celery

app = Celery("ledger")
_opening = threading.Lock()
_open = []


def ledger():
    with _opening:
        if not _open:
            connection = sqlite3.connect(os.path.join(os.environ["CASE_DIR"], "ledger.db"), timeout=5, check_same_thread=False)
            connection.execute("CREATE TABLE IF NOT EXISTS entry (account TEXT, amount INTEGER)")
            connection.commit()
            _open.append(connection)
    return _open[0]


@app.task
def book(account, amount, bank_takes):
    with ledger() as connection:
        connection.execute("INSERT INTO entry VALUES (?, ?)", (account, amount))
        time.sleep(bank_takes)
        if amount < 0:
            raise ValueError("the bank refused")
    return amount


@app.task
def balance(account):
    return ledger().execute("SELECT coalesce(sum(amount), 0) FROM entry WHERE account = ?", (account,)).fetchone()[0]
