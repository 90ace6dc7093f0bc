import io
import logging
import queue
from logging.handlers import QueueHandler, QueueListener

from celery import Celery

app = Celery("shop")


def open_log(name):
    log = logging.Logger(name)
    buffer = io.StringIO()
    pending = queue.SimpleQueue()
    log.addHandler(QueueHandler(pending))
    listener = QueueListener(pending, logging.StreamHandler(buffer))
    listener.start()
    return log, buffer


@app.task
def import_products(supplier, rows):
    log, buffer = open_log(f"import.{supplier}")
    for row in range(rows):
        log.warning("row %d", row)
    return rows
