import sqlite3
import time

from celery import Celery

app = Celery("bookings")

books = sqlite3.connect(":memory:", check_same_thread=False)
books.execute("create table bookings (room int, day int)")


@app.task
def book(room, days):
    with books:
        for day in range(days):
            books.execute("insert into bookings values (?, ?)", (room, day))
            time.sleep(0.03)  # is it free?
    return books.execute("select count(*) from bookings where room = ?", (room,)).fetchone()[0]
