import time

from celery import Celery

app = Celery("events")


class Producer:
    def __init__(self, servers):
        time.sleep(0.15)  # the cluster's metadata
        self.servers = servers

    def produce(self, topic, text):
        return len(topic) + len(text)


def producer():
    if not hasattr(app, "producer"):
        app.producer = Producer(["kafka:9092"])
    return app.producer


@app.task
def emit(text):
    return producer().produce("t", text)
