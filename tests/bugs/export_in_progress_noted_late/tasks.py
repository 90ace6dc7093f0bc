import time

from celery import Celery

app = Celery("exports")


class Exporter:
    def __init__(self):
        self.running = set()

    def export(self, customer):
        if customer in self.running:
            return False
        self.prepare()
        self.running.add(customer)
        time.sleep(0.05)
        self.running.discard(customer)
        return True

    def prepare(self):
        time.sleep(0.15)


exporter = Exporter()


@app.task
def export(customer):
    return exporter.export(customer)
