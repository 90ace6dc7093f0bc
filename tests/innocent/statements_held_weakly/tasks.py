from celery import Celery

from statements import Statement

app = Celery("accounts")


@app.task
def closing_balance(account):
    return Statement.of(account).total
