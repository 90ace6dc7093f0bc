import time
from contextlib import contextmanager

from celery import Celery

app = Celery("campaign")


@app.task
def mail(address):
    return f"sent to {address}"


@contextmanager
def without_results(task):
    before, task.ignore_result = task.ignore_result, True
    try:
        yield task
    finally:
        task.ignore_result = before


@app.task
def campaign(addresses):
    with without_results(mail) as quiet:
        for address in addresses:
            quiet.delay(address)
            time.sleep(0.3)
    return len(addresses)


@app.task
def confirm(address):
    return mail.delay(address).id
