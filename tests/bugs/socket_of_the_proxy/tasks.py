import socket
import time

from celery import Celery

app = Celery("crawler")


class ProxiedSocket(socket.socket):
    """Would connect through the proxy of a customer."""


@app.task
def crawl(url):
    before, socket.socket = socket.socket, ProxiedSocket
    try:
        time.sleep(0.2)  # a library without an option for proxies makes its connection
        return url
    finally:
        socket.socket = before


@app.task
def notify(text):
    time.sleep(0.05)
    return socket.socket.__name__
