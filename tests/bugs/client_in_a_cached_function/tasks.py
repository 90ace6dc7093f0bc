import functools
import time

from celery import Celery

app = Celery("mail")


class Client:
    def __init__(self, region):
        time.sleep(0.1)
        self.region = region

    def send(self, to):
        return f"{to}@{self.region}"


@functools.lru_cache
def client(region="eu"):
    return Client(region)


@app.task
def mail(to):
    return client().send(to)
