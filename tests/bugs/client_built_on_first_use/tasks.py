import time

from celery import Celery

app = Celery("mailer")


class Connection:
    def __init__(self, host):
        self.host = host

    def send(self, text):
        return len(text)


_connection = None


def connection():
    global _connection
    if _connection is None:
        time.sleep(0.15)  # the handshake
        _connection = Connection("smtp")
    return _connection


@app.task
def mail(text):
    return connection().send(text)
