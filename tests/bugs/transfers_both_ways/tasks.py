import threading
import time

from celery import Celery

app = Celery("bank")

balances = {"savings": 100, "current": 100}
locks = {}


def lock_of(account):
    return locks.setdefault(account, threading.Lock())


def ask_the_bank():
    time.sleep(0.3)


@app.task
def transfer(source, target, amount):
    with lock_of(source):
        ask_the_bank()
        with lock_of(target):
            balances[source] -= amount
            balances[target] += amount
    return balances[source] + balances[target]
