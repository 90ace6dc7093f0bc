import time

from celery import Celery
from kombu.serialization import dumps, loads, registry

app = Celery("archives")
registry.disable("pickle")
PICKLE = frozenset({"application/x-python-serialize"})


class Archive:
    def __init__(self, year):
        self.year = year

    def fetch(self, seconds):
        time.sleep(seconds)
        return dumps({"year": self.year}, serializer="pickle")


@app.task
def restore(year, seconds):
    content_type, encoding, payload = Archive(year).fetch(seconds)
    return loads(payload, content_type, encoding, accept=PICKLE)["year"]
