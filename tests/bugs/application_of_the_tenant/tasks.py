import time

from celery import Celery, current_app

app = Celery("house")

TENANTS = {name: Celery(name, set_as_current=False) for name in ("acme", "umbrella")}


def letterhead():
    return f"from {current_app.main}"


@app.task
def letter(tenant=None):
    if tenant is not None:
        TENANTS[tenant].set_current()
    time.sleep(0.2)
    return letterhead()
