import socket

from celery import Celery

app = Celery("stock")


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))

    def ask(self, text):
        self.socket.sendall(text.encode() + b"\n")
        return self.socket.recv(100).decode().strip()


clients = []


@app.task
def ask(port, text):
    client = Client(port)
    clients.append(client)
    return client.ask(text)
