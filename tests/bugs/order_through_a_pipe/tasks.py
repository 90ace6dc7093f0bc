import os

from celery import Celery

app = Celery("orders")

PIPE = os.path.join(os.environ["CASE_DIR"], "orders.fifo")
if not os.path.exists(PIPE):
    os.mkfifo(PIPE)


@app.task
def print_slip():
    with open(PIPE) as pipe:
        return pipe.read()


@app.task
def place_order(text):
    with open(PIPE, "w") as pipe:
        pipe.write(text)
