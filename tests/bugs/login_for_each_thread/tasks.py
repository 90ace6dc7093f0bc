import threading
import time
import uuid

from celery import Celery

app = Celery("payments")
local = threading.local()


class BankSession:
    """The bank allows us a handful of logins an hour."""

    def __init__(self):
        time.sleep(0.02)
        self.token = uuid.uuid4().hex

    def charge(self, order):
        time.sleep(0.02)
        return self.token


def bank():
    if not hasattr(local, "session"):
        local.session = BankSession()
    return local.session


@app.task
def charge(order):
    return bank().charge(order)
