import collections
import functools
import socket
import time

from celery import Celery

app = Celery("rates")

rates = {}
calls = collections.Counter()


class Busy(Exception):
    pass


@functools.lru_cache
def token(customer):
    """Log in; twice does no harm."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.send(customer.encode())
        time.sleep(0.1)
        return theirs.recv(100).decode()


@app.task(bind=True, max_retries=5)
def convert(self, currency, amount):
    calls[currency] += 1  # for the log
    if currency not in rates:
        time.sleep(0.05)  # asks the bank
        rates[currency] = len(currency)
    if self.request.retries < 2:
        raise self.retry(exc=Busy(), countdown=0.05)
    return token("shop") and amount * rates[currency]
