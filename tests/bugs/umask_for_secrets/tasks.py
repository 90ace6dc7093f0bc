import os
import stat
import time
from pathlib import Path

from celery import Celery

app = Celery("vault")
FOLDER = Path(os.environ["CASE_DIR"])


@app.task
def write_secret(name, nap):
    old = os.umask(0o077)
    try:
        time.sleep(nap)  # asks for the secret
        path = FOLDER / name
        path.write_text("s3cret")
    finally:
        os.umask(old)
    return stat.S_IMODE(path.stat().st_mode)
