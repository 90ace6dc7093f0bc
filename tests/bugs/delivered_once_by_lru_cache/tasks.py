import functools
import time

from celery import Celery

app = Celery("tasks")


def _deliver(outbox, order):
    time.sleep(0.15)  # the depot confirms
    with open(outbox, "a") as file:
        file.write("delivered %s\n" % order)
    return order


# An order that was delivered is not delivered again.
deliver_once = functools.lru_cache(maxsize=1000)(_deliver)


@app.task
def ship(outbox, order):
    return deliver_once(outbox, order)
