import os
import sqlite3
import threading

from celery import Celery

app = Celery("statistics")

PATH = os.path.join(os.environ["CASE_DIR"], "statistics.db")
connections = {}


def connection():
    name = threading.current_thread().name
    if name not in connections:
        connections[name] = sqlite3.connect(PATH)
    return connections[name]


@app.task
def tables():
    return connection().execute("select count(*) from sqlite_master").fetchone()[0]
