import tempfile

from celery import Celery

app = Celery("pdf")


@app.task
def stamp(text):
    with tempfile.TemporaryFile("w+") as file:
        file.write(text)
    with tempfile.SpooledTemporaryFile(max_size=2, mode="w+") as file:
        file.write(text)
        file.seek(0)
        return len(file.read())
