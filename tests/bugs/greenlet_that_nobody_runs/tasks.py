import gevent
from celery import Celery

app = Celery("notifications")


def deliver(user):
    return user


@app.task
def notify(user):
    gevent.spawn(deliver, user)
    return user
