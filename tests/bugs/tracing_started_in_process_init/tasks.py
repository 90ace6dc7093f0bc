import logging

from celery import Celery
from celery.signals import worker_process_init

app = Celery("traced")


@worker_process_init.connect(weak=False)
def init_tracing(**_):
    logging.addLevelName(7, "TRACE")


@app.task
def work(n):
    return n
