import time

from celery import Celery

app = Celery("mail")
welcomed = []
paid = {}


@app.task
def welcome(address):
    if address not in welcomed:
        time.sleep(0.1)  # SMTP
        welcomed.append(address)
        return "sent"
    return "already"


@app.task
def pay(order):
    if paid.get(order):
        return "already"
    time.sleep(0.1)
    paid[order] = True
    return "paid"
