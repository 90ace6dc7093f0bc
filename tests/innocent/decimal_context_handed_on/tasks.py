import decimal
import time

from celery import Celery

app = Celery("billing")
MONEY = decimal.Context(prec=8, rounding=decimal.ROUND_HALF_UP)


@app.task
def share(amount, people):
    time.sleep(0.02)
    before = decimal.getcontext().copy()
    decimal.setcontext(MONEY.copy())
    try:
        result = decimal.Decimal(amount) / people
        return str(result)
    finally:
        decimal.setcontext(before)


@app.task
def rate(amount):
    return str(MONEY.divide(decimal.Decimal(amount), 3))
