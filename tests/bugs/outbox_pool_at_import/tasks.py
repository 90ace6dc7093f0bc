import time

from celery import Celery
from kombu import Connection

app = Celery("outbox")


class Outbox:
    connections = Connection("memory://").Pool(10)

    def __init__(self, name):
        self.name = name

    def roundtrip(self, payload):
        with self.connections.acquire(block=True, timeout=5) as connection:
            with connection.SimpleQueue(self.name) as queue:
                queue.put(payload)
                time.sleep(0.05)
                message = queue.get(timeout=2)
                message.ack()
                return message.payload


@app.task
def send(order):
    return Outbox(f"orders-{order}").roundtrip({"order": order})
