import logging
import logging.handlers
import os
import queue

from celery import Celery

app = Celery("shop")
lines = queue.Queue(-1)
listener = logging.handlers.QueueListener(lines, logging.FileHandler(os.environ["CASE_DIR"] + "/shop.log"))
listener.start()
log = logging.getLogger("shop")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(logging.handlers.QueueHandler(lines))


@app.task
def order(number):
    log.info("order %s", number)
    return number
