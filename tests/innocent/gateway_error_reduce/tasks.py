import threading
import time

from celery import Celery

app = Celery("shop")


class TransportError(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class GatewayError(Exception):
    def __init__(self, message, status=500):
        super().__init__(message, status)
        self.message, self.status = message, status

    def __str__(self):
        return f"{self.message} ({self.status})"

    def __reduce__(self):
        return type(self), (self.message, self.status)


def call(status):
    time.sleep(0.02)
    if status != 200:
        raise TransportError("connection closed")
    return "paid"


@app.task(throws=(GatewayError,))
def charge(status):
    try:
        return call(status)
    except TransportError as exc:
        raise GatewayError("gateway", status=status) from exc
