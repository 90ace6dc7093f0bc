import socket
import time

from celery import Celery

app = Celery("shop")

system_getaddrinfo = socket.getaddrinfo


def ipv4_only(host, port, family=0, *args, **kwargs):
    return system_getaddrinfo(host, port, socket.AF_INET, *args, **kwargs)


def sign(payload):
    time.sleep(0.1)
    return payload.encode()


@app.task
def push(port, payload):
    socket.getaddrinfo = ipv4_only
    try:
        body = sign(payload)
        with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
            return connection.send(body)
    finally:
        socket.getaddrinfo = system_getaddrinfo
