import functools
import random
import string
import time

from celery import Celery

app = Celery("codes")
pick = functools.partial(random.Random().choices, string.ascii_uppercase, k=8)


@app.task
def code(customer):
    time.sleep(0.05)
    return "".join(pick())
