import threading
import time

from celery import Celery

app = Celery("orders")


def beat(order):
    while True:
        time.sleep(0.2)


@app.task
def pack(order):
    threading.Thread(target=beat, args=(order,), daemon=True).start()
    return order
