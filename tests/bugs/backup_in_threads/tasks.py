import os
import threading

from celery import Celery

app = Celery("backup")


def copy(path):
    with open(path) as file:
        return file.read()


@app.task
def backup(paths):
    threads = [threading.Thread(target=copy, args=(os.path.join(os.environ["CASE_DIR"], path),)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(paths)
