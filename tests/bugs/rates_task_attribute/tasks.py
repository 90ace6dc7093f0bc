import time

from celery import Celery

app = Celery("shop")


@app.task(bind=True, rates={"EUR": 1.0, "NOK": 11.0})
def convert(self, amount, currency):
    time.sleep(0.05)
    return amount * self.rates[currency]


@app.task
def update_rates(rates):
    convert.rates = rates
