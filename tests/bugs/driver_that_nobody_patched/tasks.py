import sys
import types

from celery import Celery

app = Celery("accounts")


def driver():
    """Stand for a driver in C that is not installed here."""
    module = types.ModuleType("pymssql")
    module.connect = lambda server: types.SimpleNamespace(server=server, close=lambda: None)
    return sys.modules.setdefault("pymssql", module)


pymssql = driver()


@app.task
def balance(account):
    connection = pymssql.connect("ledger")
    connection.close()
    return account
