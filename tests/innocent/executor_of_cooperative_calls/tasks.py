import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("crawler")


def serve(server):
    connection, _ = server.accept()
    with connection:
        time.sleep(0.2)
        connection.sendall(b"page")


def fetch(_number):
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        with socket.create_connection(server.getsockname()) as client:
            page = client.recv(100)
        thread.join()
    return page.decode()


@app.task
def crawl(pages):
    with ThreadPoolExecutor(pages) as executor:
        return list(executor.map(fetch, range(pages)))
