import threading
import time

from celery import Celery

app = Celery("mailer")
lock = threading.Lock()
_client = None


class Client:
    pass


def client():
    global _client
    if _client is None:
        with lock:
            if _client is None:
                time.sleep(0.1)
                _client = Client()
    return _client


@app.task
def send(number):
    client()
    return number
