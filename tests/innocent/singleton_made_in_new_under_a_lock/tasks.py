import threading
import time

from celery import Celery

app = Celery("index")


class Index:
    _instance = None
    _lock = threading.Lock()

    def __new__(cls):
        if cls._instance is None:
            with cls._lock:
                if cls._instance is None:
                    index = super().__new__(cls)
                    time.sleep(0.1)
                    index.words = {"a": 1}
                    cls._instance = index
        return cls._instance


@app.task
def find(word):
    return Index().words.get(word, 0)
