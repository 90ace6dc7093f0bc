import time
from types import SimpleNamespace

from celery import Celery

app = Celery("mail")


class Mailer:
    settings = SimpleNamespace(sender=None, reply_to=None)

    @classmethod
    def brand(cls, brand):
        cls.settings.sender = brand

    def headers(self, to):
        return {"From": self.settings.sender, "To": to}


mailer = Mailer()


@app.task
def welcome(brand, to):
    Mailer.brand(brand)
    time.sleep(0.15)  # renders the letter
    return mailer.headers(to)["From"]
