import socket
import threading
import time


def _read(link):
    with link:
        while link.recv(65536):
            time.sleep(0.01)


def _serve(listener):
    while True:
        threading.Thread(target=_read, args=(listener.accept()[0],), daemon=True).start()


def start():
    """A little collector of measured points, which reads at its leisure."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    return listener.getsockname()
