"""Asks a feed again and again until it is fresh; written for the eventlet workers."""
import eventlet
from celery import Celery

app = Celery("feeds")


class Feed:
    def __init__(self, name, fresh_after):
        self.name = name
        self.fresh_after = fresh_after
        self.asked = 0

    def fresh(self):
        self.asked += 1
        return self.asked > self.fresh_after


@app.task
def await_fresh(name, fresh_after):
    feed = Feed(name, fresh_after)
    pause = 0.2
    while not feed.fresh():
        eventlet.sleep(pause)
        pause *= 1.1
    return feed.asked
