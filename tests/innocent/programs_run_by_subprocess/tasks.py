import subprocess
import sys

from celery import Celery

app = Celery("media")


@app.task
def duration(seconds):
    subprocess.run(["sleep", str(seconds)], check=True)
    return seconds


@app.task
def version():
    return subprocess.check_output([sys.executable, "-S", "-c", "print(3)"], text=True, stderr=subprocess.PIPE)
