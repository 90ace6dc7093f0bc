import time

from celery import Celery

app = Celery("newsletter")


@app.task(rate_limit="4/s")
def mail(address):
    """The provider lets us send four a second."""
    time.sleep(0.02)
    return address.lower()


@app.task
def reset_password(user):
    time.sleep(0.02)
    return f"token-{user}"
