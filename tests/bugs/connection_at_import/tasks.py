import os
import socket

from celery import Celery

app = Celery("stock")


class Stock:
    def __init__(self):
        self.connection = socket.create_connection(("127.0.0.1", int(os.environ["STOCK_PORT"])))

    def ask(self, item):
        self.connection.sendall(item.encode() + b"\n")
        return self.connection.recv(100).decode().strip()


stock = Stock()


@app.task
def ask(item):
    return stock.ask(item)
