import threading
import time

from celery import Celery

app = Celery("crm")
kept = threading.local()


class Client:
    def ask(self, number):
        time.sleep(0.02)
        return number


def client():
    if not hasattr(kept, "client"):
        kept.client = Client()
    return kept.client


@app.task
def ask(number):
    return client().ask(number)
