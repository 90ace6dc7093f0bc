import os
import struct
import threading

from celery import Celery

app = Celery("ledger")


class Table:
    def __init__(self, path):
        with open(f"{path}.{os.getpid()}", "wb") as file:
            file.write(b"".join(struct.pack(">I", number) for number in range(1000)))
        os.replace(f"{path}.{os.getpid()}", path)
        self.file = open(path, "rb", buffering=0)
        self.lock = threading.Lock()

    def __getitem__(self, number):
        with self.lock:
            self.file.seek(number * 4)
            return struct.unpack(">I", self.file.read(4))[0]


table = Table(os.environ["CASE_DIR"] + "/ledger.bin")


@app.task
def balance(number):
    return table[number]
