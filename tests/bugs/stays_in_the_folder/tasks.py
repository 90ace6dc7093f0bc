import os
import subprocess
import tempfile

from celery import Celery

app = Celery("checkouts")


@app.task
def checkout(repository):
    os.chdir(tempfile.mkdtemp(prefix=repository, dir=os.environ["CASE_DIR"]))
    return subprocess.run(["pwd"], capture_output=True, text=True).stdout.strip()
