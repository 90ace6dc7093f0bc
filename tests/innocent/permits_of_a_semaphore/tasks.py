import functools
import threading
import time

from celery import Celery

app = Celery("mailer")


def at_most(count):
    permits = threading.BoundedSemaphore(count)

    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            with permits:
                return function(*args)
        return wrapper
    return decorate


@at_most(2)
def smtp(address):
    time.sleep(0.05)
    return f"250 {address}"


@app.task
def send(addresses):
    return [smtp(address) for address in addresses]
