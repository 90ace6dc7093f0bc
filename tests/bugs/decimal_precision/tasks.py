import decimal

from celery import Celery

app = Celery("billing")


@app.task
def rough_estimate(amount):
    decimal.getcontext().prec = 3
    return str(decimal.Decimal(amount) / 7)


@app.task
def price(amount):
    return str(decimal.Decimal(amount) / 7)
