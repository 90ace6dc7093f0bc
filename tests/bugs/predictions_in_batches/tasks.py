import threading
from statistics import fmean

from celery import Celery

app = Celery("inference")

BATCH_SIZE = 4


class Batcher:
    def __init__(self, size):
        self._inputs = []
        self._barrier = threading.Barrier(size, action=self._forward)
        self.baseline = 0.0

    def _forward(self):
        self.baseline = fmean(self._inputs)
        self._inputs = []

    def score(self, value):
        self._inputs.append(value)
        self._barrier.wait(timeout=2)
        return round(value - self.baseline, 3)


batcher = Batcher(BATCH_SIZE)


@app.task
def predict(value):
    return batcher.score(value)
