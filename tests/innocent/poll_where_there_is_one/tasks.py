import select
import selectors
import socket

from celery import Celery

app = Celery("gateway")


def readable(sock, timeout):
    if hasattr(select, "epoll"):
        poll = select.epoll()
        poll.register(sock, select.EPOLLIN)
        try:
            return bool(poll.poll(timeout))
        finally:
            poll.close()
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(timeout))


@app.task
def receive(text):
    here, there = socket.socketpair()
    with here, there:
        there.sendall(text.encode())
        assert readable(here, 1)
        return here.recv(100).decode()
