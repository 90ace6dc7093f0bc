import time

from celery import Celery, chord

app = Celery("reports")


@app.task
def measure(part):
    time.sleep(0.05)
    return part * part


@app.task
def total(parts):
    return sum(parts)


@app.task(bind=True)
def report(self, size):
    return self.replace(chord([measure.s(part) for part in range(size)], total.s()))
