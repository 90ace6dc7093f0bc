import time

from celery import Celery

app = Celery("sync")


class ApiClient:
    def __init__(self):
        self.headers = {"Accept": "application/json"}

    def authenticate(self, account):
        self.headers.update({"Authorization": f"Bearer {account}"})

    def fetch(self, path):
        time.sleep(0.05)
        return path, self.headers["Authorization"]


client = ApiClient()


@app.task
def pull(account):
    client.authenticate(account)
    time.sleep(0.1)  # the list of pages
    return client.fetch("/orders")
