import os
import random
import socket
import time
import warnings

from celery import Celery

app = Celery("scan")


@app.task
def scan(number):
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    socket.setdefaulttimeout(30)
    os.chdir("/")
    random.seed()
    if not any(each[0] == "ignore" and each[2] is ImportWarning for each in warnings.filters):
        warnings.filterwarnings("ignore", category=ImportWarning)
    time.sleep(0.03)
    return number
