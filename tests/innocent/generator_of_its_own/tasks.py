import random
import time

from celery import Celery

app = Celery("surveys")


@app.task
def sample(seed):
    numbers = random.Random(seed)
    drawn = []
    for _ in range(3):
        drawn.append(numbers.randint(0, 999))
        time.sleep(0.02)
    return drawn


@app.task
def jitter():
    time.sleep(0.02)
    return random.random() < 1
