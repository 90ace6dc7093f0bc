import sys
import threading
import time

from celery import Celery

app = Celery("images")
uploaded = []


def upload(name):
    time.sleep(0.02)
    uploaded.append(name)


def beside(function, *args):
    """Begin to run a function in what the pool has for that; returns what waits for its end."""
    if "gevent.hub" in sys.modules and "eventlet.hubs.hub" not in sys.modules:
        import gevent

        return gevent.spawn(function, *args).join
    if "eventlet.hubs.hub" in sys.modules:
        import eventlet

        return eventlet.spawn(function, *args).wait
    thread = threading.Thread(target=function, args=args)
    thread.start()
    return thread.join


def fingerprint(pixels):
    value = 7
    for pixel in range(pixels):
        value = (value * 31 + pixel) % 1_000_003
    return value


@app.task
def publish(name, pixels):
    wait = beside(upload, name)  # it should be on its way while we compute
    mark = fingerprint(pixels)
    wait()
    return mark
