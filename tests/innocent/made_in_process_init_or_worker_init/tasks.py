from celery import Celery
from celery.signals import worker_init, worker_process_init

app = Celery("either")
database = None
options = {}


def connect(**_):
    global database
    database = {"row": 1}


worker_process_init.connect(connect)
worker_init.connect(connect)


@worker_process_init.connect
def configure_child(**_):
    options["rate"] = 2


@worker_init.connect
def configure_worker(**_):
    options.setdefault("rate", 2)


@app.task
def read(n):
    return database["row"] * options["rate"] * n
