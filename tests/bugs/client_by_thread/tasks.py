import threading
import time

from celery import Celery

app = Celery("client_by_thread")


class Client:
    def __init__(self, owner):
        time.sleep(0.05)
        self.owner = owner
        self.buffer = bytearray(1 << 16)

    def send(self, text):
        self.buffer[: len(text)] = text.encode()
        time.sleep(0.05)
        return self.buffer[: len(text)].decode()


class Clients(dict):
    """One client for each thread, as it must not be used by two at once."""

    def __missing__(self, name):
        client = self[name] = Client(name)
        return client

    def current(self):
        return self[threading.current_thread().name]


clients = Clients()


@app.task
def send(text):
    return clients.current().send(text)
