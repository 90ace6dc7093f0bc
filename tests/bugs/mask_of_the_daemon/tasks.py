import os

from celery import Celery

app = Celery("archive")


@app.task
def archive(name):
    os.umask(0)  # the archive is for everybody
    path = os.path.join(os.environ["CASE_DIR"], name)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o664))
    return oct(os.stat(path).st_mode & 0o777)
