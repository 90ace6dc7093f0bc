import time
from functools import partial

from celery import Celery

app = Celery("campaign")


@app.task
def mail(address):
    return f"sent to {address}"


quietly = partial(mail.apply_async, ignore_result=True)


@app.task
def campaign(addresses):
    for address in addresses:
        quietly((address,))
        time.sleep(0.2)
    return len(addresses)


@app.task
def confirm(address):
    return mail.delay(address).id
