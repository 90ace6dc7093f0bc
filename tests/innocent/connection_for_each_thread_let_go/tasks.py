import threading
from http.client import HTTPConnection

from celery import Celery, Task

app = Celery("crawler")


class Crawling(Task):
    """Has one connection for each thread while that runs a task."""

    connections = {}

    @property
    def connection(self):
        return self.connections.setdefault(threading.get_ident(), HTTPConnection("127.0.0.1"))

    def after_return(self, *_):
        connection = self.connections.pop(threading.get_ident(), None)
        if connection is not None:
            connection.close()


@app.task(base=Crawling, bind=True)
def prepare(self, page):
    return f"http://{self.connection.host}/{page}"
