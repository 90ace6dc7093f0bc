from celery import Celery

from limits import TokenBucket

app = Celery("sms")


@app.task
@TokenBucket(size=2, every=0.1)
def send_sms(number):
    return f"sent to {number}"
