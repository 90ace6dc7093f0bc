import collections
import functools
import threading
import time

from celery import Celery

app = Celery("sms_quota")


def at_most(limit):
    def decorate(function):
        used = collections.Counter()
        guard = threading.Lock()

        @functools.wraps(function)
        def wrapper(number, *args, **kwargs):
            with guard:
                if used[number] >= limit:
                    return "refused"
                used[number] += 1
            return function(number, *args, **kwargs)
        return wrapper
    return decorate


@app.task
@at_most(3)
def send_code(number):
    time.sleep(0.2)
    return "sent"
