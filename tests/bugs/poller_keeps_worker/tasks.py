import threading

from celery import Celery

app = Celery("mailbox")
stop = threading.Event()


def poll():
    while not stop.wait(0.1):
        pass


@app.task
def open_mailbox():
    threading.Thread(target=poll).start()
    return "open"
