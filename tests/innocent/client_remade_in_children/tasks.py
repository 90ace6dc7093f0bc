import atexit

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown

app = Celery("remade")
seen = []


class Client:
    def get(self, key):
        return key.upper()


client = Client()


@worker_process_init.connect
def renew(**_):
    global client
    client = Client()


def flush(**_):
    seen.clear()


worker_process_shutdown.connect(flush)
atexit.register(flush)


@app.task
def get(key):
    seen.append(key)
    return client.get(key)
