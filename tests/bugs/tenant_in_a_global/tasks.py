import time

from celery import Celery

app = Celery("billing")
current_tenant = None


def activate(tenant):
    global current_tenant
    current_tenant = tenant


def table(name):
    return f"{current_tenant}.{name}"


@app.task
def invoice(tenant):
    activate(tenant)
    time.sleep(0.15)  # the rates come from a service
    return table("invoices")
