import threading
import time

from celery import Celery

app = Celery("mails")
sent = []


def send(number):
    for _ in range(3):
        time.sleep(0.2)
    sent.append(number)


@app.task
def notify(number):
    threading.Thread(target=send, args=(number,), daemon=True).start()
    return number
