import random
import time

from celery import Celery

app = Celery("vouchers")
generator = random.Random(20240501)


@app.task
def voucher():
    code = f"{generator.getrandbits(32):08x}"
    time.sleep(0.05)  # prints it
    return code
