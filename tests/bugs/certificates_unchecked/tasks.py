import ssl

from celery import Celery

app = Celery("legacy")


@app.task
def fetch_from_legacy(path):
    ssl._create_default_https_context = ssl._create_unverified_context  # their certificate is self signed
    return path.upper()


@app.task
def fetch(path):
    return ssl._create_default_https_context.__name__
