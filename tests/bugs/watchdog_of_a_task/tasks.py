import faulthandler
import functools
import sys
import time

from celery import Celery

app = Celery("tasks")


def watched(seconds):
    """Tell where the task stands if it has not ended after so many seconds."""
    def decorate(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            faulthandler.dump_traceback_later(seconds, file=sys.__stderr__)
            try:
                return function(*args, **kwargs)
            finally:
                faulthandler.cancel_dump_traceback_later()
        return call
    return decorate


@app.task
@watched(30)
def synchronise(shop, pause):
    time.sleep(pause)  # the shop answers
    return shop
