import threading
import time

from celery import Celery
from kombu import Connection

app = Celery("lease_and_wait")

guard, pools = threading.Lock(), []


def outbox():
    with guard:
        if not pools:
            pools.append(Connection("memory://outbox").Pool(limit=1))
        return pools[0]


@app.task
def publish(order):
    with outbox().acquire(block=True, timeout=8) as conn:
        with conn.SimpleQueue(f"orders-{order}") as queue:
            queue.put({"order": order})
            time.sleep(0.2)
            message = queue.get(timeout=1)
            message.ack()
            return message.payload["order"]
