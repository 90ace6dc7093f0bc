import socket
import time

from celery import Celery

app = Celery("probes")


@app.task
def probe(host):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.5)
    try:
        time.sleep(0.1)
        return host
    finally:
        socket.setdefaulttimeout(before)


@app.task
def upload():
    time.sleep(0.05)
    with socket.socket() as connection:
        return connection.gettimeout()
