import signal

from celery import Celery

app = Celery("batch")


def stop(number, frame):
    pass


@app.task
def batch(rows):
    try:
        signal.signal(signal.SIGUSR2, stop)
    except ValueError:
        return rows
    return rows
