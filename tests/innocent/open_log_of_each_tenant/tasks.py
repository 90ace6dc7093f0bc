import os

from celery import Celery

app = Celery("tenants")
logs = {}


def log_of(tenant):
    if tenant not in logs:
        logs[tenant] = open(os.path.join(os.environ["CASE_DIR"], f"{tenant}.log"), "a", buffering=1)
    return logs[tenant]


@app.task
def note(tenant, text):
    log_of(tenant).write(text + "\n")
    return tenant
