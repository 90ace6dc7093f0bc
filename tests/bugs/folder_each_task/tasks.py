import pathlib
import tempfile

from celery import Celery

app = Celery("unpack")


@app.task
def unpack(files):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="unpack-"))
    for name, text in files.items():
        (folder / name).write_text(text)
    return sum(len((folder / name).read_text()) for name in files)
