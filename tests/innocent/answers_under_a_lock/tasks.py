import socket
import threading
import time

from celery import Celery

app = Celery("rates")


def serve(peer):  # stands for the server of the bank
    while question := peer.recv(256).decode():
        time.sleep(0.05)
        peer.sendall(f"{question.strip()}=1.25".encode())


class Client:
    def __init__(self):
        self.sock, peer = socket.socketpair()
        self.sock.settimeout(5)
        self.lock = threading.Lock()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()

    def query(self, code):
        with self.lock:
            self.sock.sendall(f"{code}\n".encode())
            return self.sock.recv(256).decode()


opening = threading.Lock()
clients = []


def client():
    with opening:
        if not clients:
            clients.append(Client())
    return clients[0]


@app.task
def rate(code):
    return client().query(code)
