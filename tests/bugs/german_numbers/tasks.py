import locale
import time

from celery import Celery

app = Celery("invoices")


@app.task
def invoice(amount):
    before = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    try:
        time.sleep(0.1)
        return locale.format_string("%.2f", amount, grouping=True)
    finally:
        locale.setlocale(locale.LC_ALL, before)


@app.task
def statistics():
    for _ in range(4):
        time.sleep(0.04)
    return locale.setlocale(locale.LC_NUMERIC)
