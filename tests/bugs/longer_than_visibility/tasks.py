import time

from celery import Celery

app = Celery("charges")
app.conf.update(
    broker_transport_options={
        "visibility_timeout": 1,
        "unacked_restore_interval": 0.5,
        "unacked_restore_throttle": 1,
    },
    task_acks_late=True,
    worker_prefetch_multiplier=1,
)


@app.task
def charge(amount):
    time.sleep(2.5)
    return amount
