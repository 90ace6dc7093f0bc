"""Convert documents page by page, with a deadline kept by a timer."""
import threading
import time

from celery import Celery

app = Celery("converter")


class Deadline:
    """Knows whether the time is up; the timer is cancelled on the way out."""

    def __init__(self, seconds):
        self.passed = False
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def _expire(self):
        self.passed = True

    def __enter__(self):
        self._timer.start()
        return self

    def __exit__(self, *exc):
        self._timer.cancel()            # wakes its thread, which ends at once


def convert_page(page):
    time.sleep(0.01)
    return page.strip().upper()


@app.task
def convert(pages):
    done = []
    with Deadline(120) as deadline:
        for page in pages:
            if deadline.passed:
                raise TimeoutError(f"{len(done)} of {len(pages)} pages")
            done.append(convert_page(page))
    return done
