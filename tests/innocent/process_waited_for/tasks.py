import subprocess
import sys

from celery import Celery

app = Celery("video")


@app.task
def convert(number):
    with subprocess.Popen([sys.executable, "-c", f"print({number})"], stdout=subprocess.PIPE, text=True) as process:
        text, _ = process.communicate(timeout=10)
    return int(text)
