import contextlib
import fcntl
import threading
import time

from celery import Celery

app = Celery("receipt_numbers")

_here = threading.Lock()


@contextlib.contextmanager
def locked(path, patience=8):
    with _here, open(path, "a+") as handle:
        give_up = time.monotonic() + patience
        while True:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise TimeoutError(path) from None
                time.sleep(0.02)
        try:
            yield handle
        finally:
            handle.flush()
            fcntl.lockf(handle, fcntl.LOCK_UN)


@app.task
def receipt(path):
    with locked(path) as counter:
        counter.seek(0)
        number = int(counter.read() or 0) + 1
        time.sleep(0.2)
        counter.truncate(0)
        counter.write(str(number))
    return number
