import threading

from celery import Celery

app = Celery("search")


class Client:
    def __init__(self):
        self.open = True

    def find(self, word):
        return word.upper() if self.open else ""

    def close(self):
        self.open = False


own = threading.local()
clients = []


def client():
    try:
        return own.client
    except AttributeError:
        own.client = Client()
        clients.append(own.client)
        return own.client


def close_all():
    for each in clients:
        each.close()


@app.task
def find(word):
    return client().find(word)
