import os
import tempfile
import time

from celery import Celery

app = Celery("shop")


def write_under(folder, name, text):
    where = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        time.sleep(0.05)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=where)
        with os.fdopen(fd, "w") as out:
            os.fchmod(out.fileno(), 0o640)
            out.write(text)
        return oct(os.stat(name, dir_fd=where).st_mode & 0o777)
    finally:
        os.close(where)


@app.task
def stocktake(warehouse):
    with tempfile.TemporaryDirectory(prefix=f"wh{warehouse}-") as folder:
        mode = write_under(folder, "count.txt", str(warehouse))
        with open(os.path.join(folder, "count.txt")) as result:
            return [mode, result.read()]
