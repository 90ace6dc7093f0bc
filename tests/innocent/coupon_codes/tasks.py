import random
import string
import time

from celery import Celery

app = Celery("shop")

ALPHABET = string.ascii_uppercase + string.digits
secure = random.SystemRandom()


@app.task
def coupon(campaign):
    time.sleep(0.1)
    code = "".join(random.choices(ALPHABET, k=10))
    check = "".join(secure.choices(ALPHABET, k=4))
    return f"{code}-{check}"
