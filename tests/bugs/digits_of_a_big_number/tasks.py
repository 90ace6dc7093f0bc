import functools
import sys
import time

from celery import Celery

app = Celery("numbers")


def with_digits(limit):
    def wrap(fun):
        @functools.wraps(fun)
        def inner(*args):
            before = sys.get_int_max_str_digits()
            sys.set_int_max_str_digits(limit)
            try:
                return fun(*args)
            finally:
                sys.set_int_max_str_digits(before)
        return inner
    return wrap


@app.task
@with_digits(20000)
def digits(exponent, pause):
    number = 7 ** exponent
    time.sleep(pause)
    return len(str(number))
