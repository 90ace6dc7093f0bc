import logging
import os

from celery import Celery

app = Celery("shop")
log = logging.getLogger("shop")
log.addHandler(logging.FileHandler(os.environ["CASE_DIR"] + "/shop.log"))
log.addHandler(logging.FileHandler(os.environ["CASE_DIR"] + "/today.log", mode="w"))
log.warning("imported")
template = open(__file__)
source = template.read()


@app.task
def order(number):
    log.warning("order %s", number)
    return len(source) > number
