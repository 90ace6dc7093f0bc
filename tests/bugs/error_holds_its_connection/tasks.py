import socket

from celery import Celery

app = Celery("mailer")


class SendError(Exception):
    def __init__(self, message, connection):
        super().__init__(message, connection)


@app.task
def send(to):
    ours, theirs = socket.socketpair()
    theirs.close()
    try:
        raise SendError(f"{to} refused", ours)
    finally:
        ours.close()
