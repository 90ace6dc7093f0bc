import select
import socket

from celery import Celery

app = Celery("gateway")


class Watcher:
    def __init__(self, sock):
        self.poll = select.epoll()
        self.poll.register(sock.fileno(), select.EPOLLIN)

    def wait(self, seconds):
        try:
            return bool(self.poll.poll(seconds))
        finally:
            self.poll.close()


@app.task
def receive(text):
    here, there = socket.socketpair()
    with here, there:
        there.sendall(text.encode())
        return here.recv(100).decode() if Watcher(here).wait(1) else None
