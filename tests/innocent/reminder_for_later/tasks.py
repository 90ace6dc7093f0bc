import sys
import threading
from pathlib import Path

from celery import Celery

app = Celery("calls")


def after(seconds, function, *args):
    """Call a function later, by the green library that is in charge, if any."""
    if "gevent.hub" in sys.modules and "eventlet.hubs.hub" not in sys.modules:
        import gevent

        gevent.spawn_later(seconds, function, *args)
    elif "eventlet.hubs.hub" in sys.modules:
        import eventlet

        eventlet.spawn_after(seconds, function, *args)
    else:
        threading.Timer(seconds, function, args).start()


@app.task
def accept(call, board):
    after(1.2, Path(board).write_text, call)
    return call
