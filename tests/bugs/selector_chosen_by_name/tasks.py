import socket
import subprocess

from celery import Celery

app = Celery("logs")


def first_line(stream):
    from selectors import EVENT_READ, EpollSelector

    with EpollSelector() as selector:
        selector.register(stream, EVENT_READ)
        if selector.select(2):
            return stream.readline()
    return b""


@app.task
def head(text):
    try:
        with subprocess.Popen(["echo", text], stdout=subprocess.PIPE) as process:
            return first_line(process.stdout).decode()
    except ImportError as exc:
        raise RuntimeError("no first line") from exc
