import os

from celery import Celery

app = Celery("vision")


class Model:
    def __init__(self):
        self.pid = os.getpid()

    def predict(self, value):
        if os.getpid() != self.pid:
            raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. Use the 'spawn' start method")
        return value * 2


model = Model()


@app.task
def predict(value):
    return model.predict(value)
