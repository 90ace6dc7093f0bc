import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from celery import Celery

app = Celery("note_elsewhere")


def write(path, text):
    with closing(sqlite3.connect(path, timeout=5)) as db, db:
        db.execute("create table if not exists lines (text)")
        db.execute("insert into lines values (?)", (text,))
    time.sleep(0.1)
    return text


@app.task
def note(path, text):
    with ThreadPoolExecutor(1) as side:
        written = side.submit(write, path, text)
        time.sleep(0.05)
        return written.result(timeout=8)
