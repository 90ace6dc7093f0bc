import random
import time

from celery import Celery

app = Celery("lottery")


class Lottery:
    def __init__(self):
        self.draw = random.Random()

    def numbers(self):
        return sorted(self.draw.sample(range(1, 50), 6))


lottery = Lottery()


@app.task
def ticket():
    time.sleep(0.05)
    return lottery.numbers()
