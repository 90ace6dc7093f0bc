import threading

from celery import Celery

app = Celery("locks")
released = []


def release(name):
    released.append(name)
    released.clear()


@app.task
def hold(name):
    timer = threading.Timer(4, release, (name,))
    timer.daemon = True
    timer.start()
    return name
