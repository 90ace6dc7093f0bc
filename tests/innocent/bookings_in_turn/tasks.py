import sqlite3
import threading
import time

from celery import Celery

app = Celery("bookings")


class Repository:
    def __init__(self, path):
        self.path, self.connection, self.turn = path, None, threading.Lock()

    def connect(self):
        if self.connection is None:
            self.connection = sqlite3.connect(self.path, check_same_thread=False)
            self.connection.execute("create table if not exists bookings (room int, day int)")
        return self.connection

    def book(self, room, days):
        with self.turn:
            connection = self.connect()
            for day in range(days):
                connection.execute("insert into bookings values (?, ?)", (room, day))
                time.sleep(0.05)
            connection.commit()


repository = Repository(":memory:")


@app.task
def book(room, days):
    repository.book(room, days)
    return room
