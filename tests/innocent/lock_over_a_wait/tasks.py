import queue
import socket
import threading
import time

from celery import Celery

app = Celery("shop")

LOCK = threading.Lock()
RLOCK = threading.RLock()
SLOTS = threading.BoundedSemaphore(2)


@app.task
def ask(question):
    with LOCK:
        here, there = socket.socketpair()
        with here, there:
            threading.Timer(0.15, there.sendall, [question.encode()]).start()
            return here.recv(100).decode()


@app.task
def hand_over(word):
    box = queue.Queue()
    threading.Timer(0.15, box.put, [word]).start()
    with RLOCK, SLOTS:
        time.sleep(0.05)
        return box.get()
