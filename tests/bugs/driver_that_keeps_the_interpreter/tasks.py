import ctypes

from celery import Celery

app = Celery("scanner")

# Unlike ctypes.CDLL it does not release the interpreter's lock.
driver = ctypes.PyDLL(None)


@app.task
def scan(microseconds):
    driver.usleep(microseconds)


@app.task
def ping():
    return "pong"
