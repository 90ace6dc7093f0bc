from decimal import ROUND_UP, Context, Decimal, setcontext

from celery import Celery

app = Celery("invoices")


@app.task
def invoice(amount):
    setcontext(Context(prec=6, rounding=ROUND_UP))
    return str(Decimal(amount) / 3)


@app.task
def refund(amount):
    return str(Decimal(amount) / 3)
