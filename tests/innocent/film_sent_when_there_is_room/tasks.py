import os
import select
import socket
import tempfile
import threading
import time

from celery import Celery

app = Celery("films")


def viewer(sock, seen):
    while True:
        time.sleep(0.01)
        data = sock.recv(65536)
        if not data:
            return
        seen.append(len(data))


@app.task
def send(size):
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    seen = []
    thread = threading.Thread(target=viewer, args=(theirs, seen))
    thread.start()
    try:
        with tempfile.TemporaryFile() as film:
            film.truncate(size)
            sent = 0
            while sent < size:
                try:
                    sent += os.sendfile(ours.fileno(), film.fileno(), sent, size - sent)
                except BlockingIOError:
                    select.select([], [ours], [], 5)
    finally:
        ours.close()
        thread.join()
        theirs.close()
    return sum(seen)
