import ctypes

from celery import Celery

app = Celery("extensions")
# A library whose authors forgot Py_BEGIN_ALLOW_THREADS.
library = ctypes.PyDLL(None)


@app.task
def scan(disk):
    library.usleep(4_000_000)
    return disk


@app.task
def greet(name):
    return f"Good morning, {name}."
