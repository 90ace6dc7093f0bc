import decimal
import time

from celery import Celery

app = Celery("billing")


@app.task
def price(amount, digits):
    with decimal.localcontext() as context:
        context.prec = digits
        context.traps[decimal.Inexact] = False
        time.sleep(0.03)
        return str(decimal.Decimal(amount) / 7)
