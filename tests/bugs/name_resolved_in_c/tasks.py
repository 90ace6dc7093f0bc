import ctypes

from celery import Celery

app = Celery("mail")

# A C library that keeps the interpreter's lock, as careless extensions do.
resolver = ctypes.PyDLL(None)


def resolve(host):
    resolver.usleep(300_000)
    return f"mx.{host}"


@app.task
def check_address(address):
    user, _, host = address.partition("@")
    server = resolve(host)
    return bool(user and server)
