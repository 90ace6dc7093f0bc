from celery import Celery
from celery.signals import worker_process_init

app = Celery("payments")


class Client:
    def __init__(self, url):
        self.url = url
        self.sent = 0

    def charge(self, customer, amount):
        self.sent += 1
        return {"customer": customer, "amount": amount, "via": self.url}


class PerProcess:
    """An attribute that every worker process fills anew when it starts."""

    def __init__(self, factory):
        self.factory = factory
        self.value = None
        worker_process_init.connect(self.fill)

    def fill(self, **_):
        self.value = self.factory()

    def __get__(self, owner, kind=None):
        return self.value


class Gateway:
    client = PerProcess(lambda: Client("https://pay.example"))

    def charge(self, customer, amount):
        return self.client.charge(customer, amount)


gateway = Gateway()


@app.task
def charge(customer, amount):
    return gateway.charge(customer, amount)["amount"]
