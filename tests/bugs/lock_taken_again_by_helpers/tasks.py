import multiprocessing
import os
import time

from celery import Celery

app = Celery("bank")
ACCOUNT = os.path.join(os.environ["CASE_DIR"], "account")
lock = multiprocessing.RLock()


def read():
    with lock, open(ACCOUNT) as f:
        return int(f.read())


def write(balance):
    with lock, open(ACCOUNT, "w") as f:
        f.write(str(balance))


@app.task
def open_account():
    write(0)


@app.task
def deposit(amount):
    with lock:
        balance = read()
        time.sleep(0.05)  # ask for the fee
        write(balance + amount)


@app.task
def balance():
    return read()
