"""Order mails for several shops, each of which writes under its own address."""
import contextlib
import time

from celery import Celery
from django.conf import settings

if not settings.configured:
    settings.configure(SECRET_KEY="x", LOGGING_CONFIG=None, DEFAULT_FROM_EMAIL="office@example.org")

from django.core.mail import EmailMessage

app = Celery("shops")


@contextlib.contextmanager
def writing_as(address):
    office = settings.DEFAULT_FROM_EMAIL
    settings.DEFAULT_FROM_EMAIL = address
    try:
        yield
    finally:
        settings.DEFAULT_FROM_EMAIL = office


def render(order):
    time.sleep(0.15)
    return f"Thank you for order {order}."


@app.task
def order_mail(shop, order, customer):
    with writing_as(f"{shop}@example.org"):
        mail = EmailMessage(f"Order {order}", render(order), to=[customer])
    return [mail.from_email, mail.body]
