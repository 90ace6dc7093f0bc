import sys
import types

from celery import Celery

app = Celery("accounts")


def driver():
    """Stand for a driver in C that is not installed here, and has been told how to wait."""
    extensions = types.ModuleType("psycopg2.extensions")
    extensions.get_wait_callback = lambda: print
    module = types.ModuleType("psycopg2")
    module.extensions = extensions
    module.connect = lambda dsn: types.SimpleNamespace(dsn=dsn, close=lambda: None)
    sys.modules.setdefault("psycopg2.extensions", extensions)
    return sys.modules.setdefault("psycopg2", module)


psycopg2 = driver()


@app.task
def balance(account):
    connection = psycopg2.connect("dbname=ledger")
    connection.close()
    return account
