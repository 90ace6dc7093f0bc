import threading
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("backup")


def copy(path):
    if path == "missing":
        raise FileNotFoundError(path)
    return path


class Copy(threading.Thread):
    def __init__(self, path):
        super().__init__()
        self.path, self.error = path, None

    def run(self):
        try:
            copy(self.path)
        except OSError as exc:
            self.error = exc


@app.task
def backup(paths):
    threads = [Copy(path) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ThreadPoolExecutor(2) as executor:
        futures = [executor.submit(copy, path) for path in paths]
    failed = [each for each in threads if each.error is not None]
    return len(failed) + sum(future.exception() is not None for future in futures)
