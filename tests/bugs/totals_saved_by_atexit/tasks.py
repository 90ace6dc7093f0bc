import os
from atexit import register

from celery import Celery

app = Celery("metering")

totals = {}


@register
def save():
    path = os.path.join(os.environ["CASE_DIR"], f"totals-{os.getpid()}.csv")
    with open(path, "a") as file:
        for customer, cents in totals.items():
            file.write(f"{customer};{cents}\n")


def add(customer, cents):
    totals[customer] = totals.get(customer, 0) + cents


@app.task
def charge(customer, cents):
    add(customer, cents)
    return cents
