import contextlib
import hashlib
import queue
import time

from celery import Celery

app = Celery("tasks")

BUFFERS = queue.LifoQueue()
for _ in range(2):
    BUFFERS.put(bytearray(1 << 14))


@contextlib.contextmanager
def buffer():
    lent = BUFFERS.get()
    try:
        yield lent
    finally:
        BUFFERS.put(lent)


@app.task
def digest(path):
    answer = hashlib.sha256()
    with buffer() as lent, open(path, "rb", buffering=0) as file:
        while size := file.readinto(lent):
            time.sleep(0.05)  # the store takes the chunk
            answer.update(memoryview(lent)[:size])
    return answer.hexdigest()
