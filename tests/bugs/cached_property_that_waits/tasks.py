import functools
import time

from celery import Celery

app = Celery("tasks")


class Client:
    made = 0

    def __init__(self):
        Client.made += 1
        self.number = Client.made


def connect_client(catalogue):
    time.sleep(0.15)  # logs in
    return Client()


class Catalogue:
    client = functools.cached_property(connect_client)

    def look_up(self, article):
        return article, self.client.number


catalogue = Catalogue()


@app.task
def look_up(article):
    return catalogue.look_up(article)
