import os
import threading
import time

from celery import Celery

app = Celery("mails")
app.conf.worker_max_tasks_per_child = 1


def send(number):
    time.sleep(0.5)
    with open(os.path.join(os.environ["CASE_DIR"], f"mail-{number}"), "w") as file:
        file.write("sent")


@app.task
def notify(number):
    threading.Thread(target=send, args=(number,), daemon=True).start()
    return number
