import threading
import time


class Model:
    """A model of one language; not for use by two at a time."""

    def __init__(self, language):
        self.language = language
        self._lock = threading.Lock()

    def __enter__(self):
        if not self._lock.acquire(timeout=1):
            raise TimeoutError(f"{self.language} is in use")
        time.sleep(0.15)     # warm up
        return lambda text: f"{self.language}({text})"

    def __exit__(self, *exc_info):
        self._lock.release()
