import os
import time
from unittest import mock

from celery import Celery

app = Celery("fetcher")


@app.task
def fetch(url):
    """Go through the proxy: the library knows of it from the environment only."""
    with mock.patch.dict(os.environ, {"HTTPS_PROXY": "http://proxy:3128"}):
        time.sleep(0.1)
        return url


@app.task
def direct(url):
    for _ in range(4):
        time.sleep(0.04)
        proxy = os.environ.get("HTTPS_PROXY")
    return proxy
