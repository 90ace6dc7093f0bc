import time

from celery import Celery

app = Celery("reports", broker_heartbeat=2)


@app.task(acks_late=True)
def report(month):
    time.sleep(5)  # the database takes its time
    return f"report of {month}"
