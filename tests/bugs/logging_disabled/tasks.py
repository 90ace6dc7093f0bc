import logging

from celery import Celery

app = Celery("importer")
log = logging.getLogger("importer")


@app.task
def noisy_import():
    logging.disable(logging.CRITICAL)  # the library logs every row
    return 1


@app.task
def speak():
    log.error("this must be seen")
    return 2
