from celery import Celery

from statements import Statement

app = Celery("accounts")


@app.task
def closing_balance(account, currency):
    statement = Statement.load(account)
    return statement.total(currency)
