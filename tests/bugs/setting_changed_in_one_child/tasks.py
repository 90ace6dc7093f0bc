import time

from celery import Celery

app = Celery("pricing")


class Settings:
    def __init__(self):
        self.discount = 0


settings = Settings()


@app.task
def set_discount(value):
    settings.discount = value
    return value


@app.task
def price(amount):
    time.sleep(0.1)
    return amount - settings.discount
