import os
import sqlite3
import threading
import time

from celery import Celery

app = Celery("bank")
_db, _opening = None, threading.Lock()


def database():
    global _db
    with _opening:
        if _db is None:
            path = os.path.join(os.environ["CASE_DIR"], "bank.db")
            _db = sqlite3.connect(path, timeout=5, check_same_thread=False)
            _db.execute("create table if not exists moves (account text, amount int)")
    return _db


@app.task
def transfer(source, target, amount, check_takes):
    db = database()
    db.execute("insert into moves values (?, ?)", (source, -amount))
    time.sleep(check_takes)
    if target == "unknown":
        db.rollback()
        return "refused"
    db.execute("insert into moves values (?, ?)", (target, amount))
    db.commit()
    return "done"


@app.task
def imbalance():
    return database().execute("select coalesce(sum(amount), 0) from moves").fetchone()[0]
