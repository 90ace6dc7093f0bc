import http.client
import threading

from celery import Celery

app = Celery("mails")
mine = threading.local()
made = []


def server():
    try:
        return mine.server
    except AttributeError:
        made.append(1)
        mine.server = http.client.HTTPConnection("localhost", 2525, timeout=1)
        return mine.server


@app.task
def deliver(address):
    return f"{address} by way of {server().host}"


@app.task
def logins():
    return len(made)
