import time

from celery import Celery
from django.conf import settings
from django.core.mail import EmailMessage
from django.test.utils import override_settings

if not settings.configured:
    settings.configure(
        EMAIL_BACKEND="django.core.mail.backends.dummy.EmailBackend",
        DEFAULT_FROM_EMAIL="noreply@example.com",
        USE_TZ=True,
    )

app = Celery("shop")

BRANDS = {
    "nordic": "hello@nordic.example",
    "alpina": "service@alpina.example",
}


def render_receipt(order_id):
    time.sleep(0.2)
    return f"Thank you for your order {order_id}."


@app.task
def send_receipt(brand, order_id, recipient):
    with override_settings(DEFAULT_FROM_EMAIL=BRANDS[brand]):
        body = render_receipt(order_id)
        message = EmailMessage(f"Receipt {order_id}", body, to=[recipient])
        message.send()
    return message.from_email
