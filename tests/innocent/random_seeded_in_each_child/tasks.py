import random

from celery import Celery
from celery.signals import worker_process_init

app = Celery("vouchers")
generator = random.Random(7)
system = random.SystemRandom()
of_order = random.Random()


@worker_process_init.connect
def seed(**kwargs):
    generator.seed()


@app.task
def voucher(number):
    of_order.seed(number)
    return [generator.random(), system.random(), random.random(), of_order.random()]
