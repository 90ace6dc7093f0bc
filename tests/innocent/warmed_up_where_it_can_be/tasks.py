import random

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

app = Celery("warm")
model = None
connections = {"a": object()}


class Engine:
    def dispose(self):
        self.clean = True


engine = Engine()


def load():
    global model
    if model is None:
        model = {"weight": 3}
    return model


@worker_process_init.connect
def warm(**_):
    load()


@worker_process_init.connect
def after_fork(**_):
    random.seed()
    engine.dispose()


@worker_process_shutdown.connect
def close(**_):
    connections.clear()


@app.task
def infer(n):
    connections.setdefault(n, object())
    return load()["weight"] * n
