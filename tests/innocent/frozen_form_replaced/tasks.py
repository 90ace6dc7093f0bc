import dataclasses
import time

from celery import Celery

app = Celery("tasks")


@dataclasses.dataclass(frozen=True)
class Customer:
    name: str = ""
    country: str = "DE"


@dataclasses.dataclass(frozen=True)
class Form:
    customer: Customer = Customer()
    amount: int = 0
    rating: int = 0


FORM = Form()


def credit_rating(name):
    time.sleep(0.1)  # the agency answers
    return len(name)


@app.task
def apply_for(name, amount):
    form = dataclasses.replace(FORM, amount=amount)
    form = dataclasses.replace(form, customer=dataclasses.replace(form.customer, name=name))
    form = dataclasses.replace(form, rating=credit_rating(name))
    return [form.customer.name, form.amount, form.rating]
