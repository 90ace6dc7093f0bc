import time

from celery import Celery, chord

app = Celery("offers")


@app.task
def price(item):
    time.sleep(0.05)
    return 10 * item


@app.task
def add(prices):
    return sum(prices)


@app.task(bind=True)
def offer(self, items):
    return self.replace(chord([price.s(item) for item in items], add.s()))
