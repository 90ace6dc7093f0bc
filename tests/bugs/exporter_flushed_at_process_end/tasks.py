import logging.handlers

from celery import Celery
from celery.signals import worker_process_shutdown

app = Celery("audit")
memory = logging.handlers.MemoryHandler(1000)


@worker_process_shutdown.connect
def export(**_):
    memory.flush()


@app.task
def note(text):
    memory.handle(logging.makeLogRecord({"msg": text, "levelno": logging.INFO}))
    return text
