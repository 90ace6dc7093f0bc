import hashlib
import time

from celery import Celery

app = Celery("tasks")

BUFFER = bytearray(1 << 16)


def send(chunk):
    time.sleep(0.1)  # the store takes the chunk
    return bytes(chunk)


@app.task
def upload(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(BUFFER):
            digest.update(send(memoryview(BUFFER)[:size]))
            digest.update(memoryview(BUFFER)[:size])
    return digest.hexdigest()
