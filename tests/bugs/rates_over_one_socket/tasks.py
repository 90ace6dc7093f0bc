import socket
import threading
import time

from celery import Celery

app = Celery("rates")


def serve(peer):  # stands for the rate server at the other end
    while True:
        for code in peer.recv(256).decode().split():
            time.sleep(0.02)
            peer.sendall(f"{code}=1.25\n".encode())


class RateClient:
    def __init__(self):
        self.sock, peer = socket.socketpair()
        self.sock.settimeout(3)
        threading.Thread(target=serve, args=(peer,), daemon=True).start()

    def query(self, code):
        self.sock.sendall(f"{code}\n".encode())
        time.sleep(0.1)  # write the audit record
        return self.sock.recv(256).decode().strip()


clients = []


@app.task
def rate(code):
    if not clients:
        clients.append(RateClient())
    return clients[0].query(code)
