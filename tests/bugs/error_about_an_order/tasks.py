from celery import Celery

app = Celery("orders")


class Order:
    def __init__(self, number):
        self.number = number


class OutOfStock(Exception):
    @property
    def order(self):
        return self.args[0]


@app.task
def ship(number):
    raise OutOfStock(Order(number))
