import time

from celery import Celery

app = Celery("mailing")

#: Addresses that are still to be written to.
backlog = ["ann@example.org"]


def deliver(address):
    time.sleep(0.05)  # the mail server answers
    return address


@app.task
def work_off():
    if backlog:
        time.sleep(0.1)  # looks up the letter
        address = backlog.pop(0)
        return deliver(address)
    return None
