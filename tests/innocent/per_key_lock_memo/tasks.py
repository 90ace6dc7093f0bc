import collections
import threading
import time

from celery import Celery

app = Celery("shop")
_guard = threading.Lock()
_locks = collections.defaultdict(threading.Lock)
_catalogues = {}
LANGUAGES = ("de", "en", "fr", "nl")


def load(language):
    time.sleep(0.1)
    return {"hello": f"hello:{language}", "bye": f"bye:{language}"}


def catalogue(language):
    if language not in LANGUAGES:
        raise KeyError(language)
    with _guard:
        lock = _locks[language]
    with lock:
        if language not in _catalogues:
            _catalogues[language] = load(language)
        return _catalogues[language]


@app.task
def greet(language, word="hello"):
    return catalogue(language)[word]
