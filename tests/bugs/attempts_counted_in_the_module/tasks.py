import collections
import time

from celery import Celery

app = Celery("tasks")

ATTEMPTS = collections.Counter()


class BankIsDown(Exception):
    pass


def book(order):
    time.sleep(0.1 + 0.02 * len(order))
    raise BankIsDown(order)


@app.task(bind=True, max_retries=None)
def charge(self, order):
    ATTEMPTS[order] += 1
    try:
        book(order)
    except BankIsDown as error:
        if ATTEMPTS[order] < 3:
            raise self.retry(exc=error, countdown=0.05)
    del ATTEMPTS[order]
    return self.request.retries + 1  # given up
