import queue
import time

from celery import Celery

app = Celery("orders")

free = queue.Queue()
for number in range(2):
    free.put(number)


@app.task
def order(number):
    connection = free.get(timeout=5)
    try:
        time.sleep(0.05)  # asks the database
    finally:
        free.put(connection)
    return number
