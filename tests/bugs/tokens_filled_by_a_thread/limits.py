import contextlib
import functools
import threading
import time


class TokenBucket:
    """A decorator: at most `size` calls at once, then one more each `every` seconds."""

    def __init__(self, size, every):
        self.tokens = threading.BoundedSemaphore(size)
        threading.Thread(target=self.refill, args=(self.tokens, every), daemon=True).start()

    @staticmethod
    def refill(tokens, every):
        while True:
            time.sleep(every)
            with contextlib.suppress(ValueError):  # full
                tokens.release()

    def __call__(self, function):
        @functools.wraps(function)
        def limited(*args, **options):
            if not self.tokens.acquire(timeout=3):
                raise TimeoutError(f"no token for {function.__name__}")
            return function(*args, **options)

        return limited
