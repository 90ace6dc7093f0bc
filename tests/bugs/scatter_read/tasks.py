import os
import socket
import struct
import threading
import time

from celery import Celery

app = Celery("scatter_read")


def meter(sock, value):
    """Stands for the device at the other end: it takes a while to answer."""
    with sock:
        time.sleep(0.2)
        sock.sendall(struct.pack("!I", 4) + struct.pack("!I", value))


class Frame:
    def __init__(self):
        self.head, self.body = bytearray(4), bytearray(4)

    def read_from(self, sock):
        got = os.readv(sock.fileno(), [self.head, self.body])
        if got != 8:
            raise EOFError(got)
        return struct.unpack("!I", self.body)[0]


@app.task
def reading(value):
    ours, theirs = socket.socketpair()
    device = threading.Thread(target=meter, args=(theirs, value))
    device.start()
    with ours:
        result = Frame().read_from(ours)
    device.join()
    return result
