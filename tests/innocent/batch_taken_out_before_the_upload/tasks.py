import time

from celery import Celery

app = Celery("analytics")

batch, sent = [], []


def upload(events):
    time.sleep(0.05)  # waits for the answer
    sent.extend(events)


@app.task
def track(event):
    batch.append(event)
    if len(batch) >= 2:
        events = batch[:]
        batch.clear()
        upload(events)
    return event
