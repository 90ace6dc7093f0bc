import functools
import threading
from http.client import HTTPConnection

from celery import Celery

app = Celery("crawler")


@functools.cache
def connection_of(worker):
    return HTTPConnection("127.0.0.1", timeout=5)


@app.task
def prepare(path, page):
    connection = connection_of(threading.current_thread().name)
    return f"http://{connection.host}{path}?page={page}"
