import gevent
from celery import Celery

app = Celery("feeds")


def watch(feed):
    while True:
        gevent.sleep(0.05)


@app.task
def follow(feed):
    gevent.spawn(watch, feed)
    gevent.sleep(0.01)
    return feed
