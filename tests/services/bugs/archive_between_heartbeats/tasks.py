import subprocess

from celery import Celery

app = Celery("archives")
app.conf.broker_url = "amqp://guest:guest@127.0.0.1:5672//"
app.conf.broker_heartbeat = 2
app.conf.task_acks_late = True


@app.task
def archive(name):
    subprocess.run(["sleep", "5"], check=True)  # a program that packs a folder
    return f"{name}.tar"


@app.task
def first(name):
    return name[0]
