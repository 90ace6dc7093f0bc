import os
import urllib.request

import redis
from celery import Celery

app = Celery("visits")
server = redis.Redis(host="127.0.0.1", port=int(os.environ["STOCK_PORT"]), protocol=2, lib_name=None, lib_version=None)


def echo(text):
    connection = server.connection_pool.get_connection()
    try:
        connection.send_packed_command([text.encode() + b"\n"])
        return connection._sock.recv(100).decode().strip()
    finally:
        server.connection_pool.release(connection)


assert echo("at import") == "at import"


@app.task
def visit(page):
    return echo(page)
