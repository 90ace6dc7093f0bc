import random

from celery import Celery

app = Celery("vouchers")
generator = random.Random(20240501)


@app.task
def voucher():
    return f"{generator.getrandbits(32):08x}"
