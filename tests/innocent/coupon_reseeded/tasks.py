import os
import random
import time

from celery import Celery

app = Celery("coupon_reseeded")

rng = random.Random()
os.register_at_fork(after_in_child=rng.seed)


@app.task
def grant(customer):
    coupon = f"{rng.getrandbits(64):016x}"
    time.sleep(0.3)
    return [customer, coupon]
