import time

from celery import Celery

from ledger import atomic

app = Celery("tasks")


@app.task
def transfer(amount):
    with atomic() as transaction:
        time.sleep(0.05)  # the bank answers
        if amount < 0:
            raise ValueError(amount)
    return transaction.committed
