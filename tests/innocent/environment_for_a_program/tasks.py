import os
import subprocess

from celery import Celery

app = Celery("tools")


@app.task
def tool(number):
    done = subprocess.run(
        "sleep 0.05; echo $NUMBER; pwd",
        shell=True,
        env={**os.environ, "NUMBER": str(number)},
        cwd="/",
        capture_output=True,
        text=True,
    )
    return done.stdout.split()
