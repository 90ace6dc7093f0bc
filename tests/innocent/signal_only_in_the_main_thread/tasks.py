import signal
import threading
import time

from celery import Celery

app = Celery("batch")


@app.task
def batch(number):
    time.sleep(0.02)
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGUSR2, lambda *_: None)
        signal.signal(signal.SIGUSR2, before)
    time.sleep(0.02)
    return number
