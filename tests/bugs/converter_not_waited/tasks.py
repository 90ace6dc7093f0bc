import subprocess
import sys

from celery import Celery

app = Celery("video")
jobs = []


@app.task
def convert(name):
    jobs.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", name]))
    return len(jobs)
