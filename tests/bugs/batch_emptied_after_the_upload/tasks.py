import os
import time

from celery import Celery

app = Celery("analytics")

batch = []


def upload(events):
    with open(os.path.join(os.environ["CASE_DIR"], "sent"), "a") as file:
        file.writelines(f"{event}\n" for event in events)
    time.sleep(0.1)  # waits for the answer


@app.task
def track(event):
    time.sleep(0.05)  # where does it come from?
    batch.append(event)
    if len(batch) >= 2:
        upload(batch)
        batch.clear()
