import threading
import time

from celery import Celery

app = Celery("shop")

rates = {"EUR": 1.0, "USD": 1.08}
loaded_at = time.monotonic()


def refresh_rates():
    global loaded_at
    rates.update(EUR=1.0, USD=1.08)
    loaded_at = time.monotonic()
    timer = threading.Timer(0.3, refresh_rates)
    timer.daemon = True
    timer.start()


refresh_rates()


@app.task
def convert(amount, currency):
    return {"amount": amount * rates[currency], "rate_age": time.monotonic() - loaded_at}
