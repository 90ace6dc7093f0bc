import time

from celery import Celery

app = Celery("vouchers")
codes = [f"CODE-{n:04}" for n in range(1000)]


@app.task
def voucher(customer):
    time.sleep(0.05)
    return codes.pop()
