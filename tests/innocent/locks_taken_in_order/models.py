import threading
import time


class Model:
    """A model of one language; not for use by two at a time."""

    def __init__(self, language):
        self.language = language
        self._lock = threading.Lock()

    def __enter__(self):
        self._lock.acquire()
        time.sleep(0.03)     # warm up
        return lambda text: f"{self.language}({text})"

    def __exit__(self, *exc_info):
        self._lock.release()
