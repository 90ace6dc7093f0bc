import threading

from celery import Celery

app = Celery("mail")


class Mail(threading.Thread):
    def __init__(self, address):
        super().__init__(daemon=True)
        self.address = address

    def run(self):
        user, host = self.address.split("@")
        self.sent = host, user


@app.task
def send(address):
    mail = Mail(address)
    mail.start()
    mail.join(timeout=5)
    return not mail.is_alive()
