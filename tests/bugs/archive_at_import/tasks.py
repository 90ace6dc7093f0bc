import io
import os
import zipfile

from celery import Celery

app = Celery("templates")

path = os.environ["CASE_DIR"] + "/templates.zip"
with zipfile.ZipFile(f"{path}.{os.getpid()}", "w") as archive:
    for number in range(20):
        archive.writestr(f"{number}.txt", f"template {number} " * 100)
os.replace(f"{path}.{os.getpid()}", path)
templates = zipfile.ZipFile(path)


@app.task
def render(number):
    return len(templates.read(f"{number}.txt"))
