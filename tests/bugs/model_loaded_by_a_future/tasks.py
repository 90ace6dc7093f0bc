import time
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("model")


def load():
    time.sleep(2)
    return {"a": 1}


model = ThreadPoolExecutor(1).submit(load)  # in the background, starting is quick so


@app.task
def score(word):
    return model.result(timeout=4).get(word, 0)
