import urllib.parse

import redis
from celery import Celery

app = Celery("devices")

pool = None


def client():
    global pool
    if pool is None:
        path = urllib.parse.urlsplit(app.conf.broker_url).path
        # A process runs one task at a time.
        pool = redis.ConnectionPool(connection_class=redis.UnixDomainSocketConnection, path=path, max_connections=1)
    return redis.Redis(connection_pool=pool)


@app.task
def ask(device):
    answer = client().blpop(f"answers:{device}", timeout=0.3)
    return "offline" if answer is None else answer[1].decode()
