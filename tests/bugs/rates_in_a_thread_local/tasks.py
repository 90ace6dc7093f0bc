import threading

from celery import Celery

app = Celery("rates")

context = threading.local()


def configure(currency):
    context.currency = currency
    context.rates = {"EUR": 1.0, "USD": 1.1}


configure("USD")


@app.task
def convert(amount):
    return round(amount * context.rates[context.currency], 2)
