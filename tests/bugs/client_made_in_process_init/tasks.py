from celery import Celery
from celery.signals import worker_process_init

app = Celery("prices")
client = None


class Client:
    def price(self, item):
        return len(item)


@worker_process_init.connect
def connect(**_):
    global client
    client = Client()


@app.task
def price(item):
    return client.price(item)
