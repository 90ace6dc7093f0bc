import os
import time

from celery import Celery

app = Celery("sync")
clients = {}


class Client:
    def __init__(self, pid):
        self.pid = pid


def client():
    pid = os.getpid()
    if pid not in clients:
        clients[pid] = Client(pid)
    return clients[pid]


@app.task
def pid(number):
    time.sleep(0.05)
    return client().pid == os.getpid()
