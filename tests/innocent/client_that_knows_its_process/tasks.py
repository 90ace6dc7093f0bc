import os

from celery import Celery

app = Celery("ledger")


class Client:
    def __init__(self):
        self.process = os.getpid()
        self.sent = []

    def send(self, text):
        self.sent.append(text)
        return self.process == os.getpid()


client = Client()


def current():
    global client
    if client.process != os.getpid():
        client = Client()
    return client


@app.task
def send(text):
    return current().send(text)
