import time

from celery import Celery

app = Celery("news")
app.conf.broker_pool_limit = 3


class Channel:
    name = "announcements"

    def __init__(self, connection):
        self.queue = connection.SimpleQueue(self.name, no_ack=True)

    def send(self, text):
        self.queue.put({"text": text})
        time.sleep(0.8)
        self.queue.close()


@app.task
def announce(text):
    with app.pool.acquire(block=True, timeout=0.25) as connection:
        Channel(connection).send(text)
    return len(text)
