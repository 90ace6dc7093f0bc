import threading

from celery import Celery

app = Celery("audit")
current = threading.local()


def who():
    return getattr(current, "user", "system")


@app.task
def rename(user, name):
    current.user = user
    return f"{who()} renamed {name}"


@app.task
def expire(name):
    return f"{who()} expired {name}"
