"""Where pytest-django is active, nothing is written to another database than the tests' own."""

import pytest

pytest.importorskip("pytest_django")
pytest.importorskip("django")

SETTINGS = """
import pathlib
HERE = pathlib.Path(__file__).parent
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["items"]
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": HERE / "real.sqlite3",
        "TEST": {{"NAME": {test_name}}},
    }}
}}
"""

MODELS = """
from django.db import models

class Item(models.Model):
    name = models.CharField(max_length=100)
"""

PROJ = """
import os
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
import django
from celery import Celery

app = Celery("proj")
app.config_from_object("django.conf:settings", namespace="CELERY")

@app.on_after_finalize.connect
def setup(**_):
    pass

@app.task
def store(name):
    django.setup()
    from items.models import Item
    return Item.objects.create(name=name).pk

@app.task
def count():
    django.setup()
    from items.models import Item
    return Item.objects.count()

@app.task
def database():
    django.setup()
    from django.db import connection
    return str(connection.settings_dict["NAME"])
"""

SUITE = """
import pytest
from items.models import Item
from proj import count, database, store

@pytest.mark.django_db(transaction=True)
def test_the_worker_writes_to_the_test_database(celery_pool_worker):
    celery_pool_worker.run(store, "from the worker")
    assert [item.name for item in Item.objects.all()] == ["from the worker"]

@pytest.mark.django_db(transaction=True)
def test_the_worker_sees_what_the_test_wrote(celery_pool_worker):
    Item.objects.create(name="from the test")
    assert celery_pool_worker.run(count) == 1

@pytest.mark.django_db
def test_hidden_rows(celery_pool_worker):
    Item.objects.create(name="in a transaction")
    assert celery_pool_worker.run(count) == 1
"""


@pytest.fixture
def suite(project):
    def make(test_name):
        project.write(
            settings=SETTINGS.format(test_name=test_name),
            items____init__="",
            items__models=MODELS,
            proj=PROJ,
            test_it=SUITE,
        )
        return lambda *options: project.run(
            "-ppytest_django.plugin", "--ds=settings", "--no-migrations", "--celery-app=proj:app", *options
        )

    return make


@pytest.mark.gate("prefork")
@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_worker_uses_the_test_database_and_no_other(suite, project, pool):
    run = suite('HERE / "test.sqlite3"')(f"--celery-pools={pool}")
    outcomes = run.outcomes()
    assert outcomes[f"test_the_worker_writes_to_the_test_database[{pool}]"] == "passed", run.output
    assert outcomes[f"test_the_worker_sees_what_the_test_wrote[{pool}]"] == "passed", run.output
    assert not (project.path / "real.sqlite3").exists()


def test_rows_hidden_by_the_tests_open_transaction_are_pointed_out(suite):
    text = suite('HERE / "test.sqlite3"')("--celery-pools=solo", "-k", "hidden").failure("test_hidden_rows[solo]")
    assert "runs inside a database transaction (default)" in text
    assert "django_db(transaction=True)" in text


TEST_CASES = """
import unittest
import pytest
from django.test import TestCase, TransactionTestCase
from items.models import Item
from proj import count

def check():
    Item.objects.create(name="from the test")
    assert count.delay().get() == 1

@pytest.mark.celery_expect
@pytest.mark.django_db(transaction=True)
class InTransaction(TestCase):
    def test_hidden(self):
        check()

@pytest.mark.celery_expect
class Committing(TransactionTestCase):
    def test_seen(self):
        check()

@pytest.mark.celery_expect
@pytest.mark.django_db
class OfUnittest(unittest.TestCase):
    def test_hidden(self):
        check()
"""


def test_rows_hidden_by_djangos_own_test_case_are_pointed_out_with_the_class_that_shows_them(suite, project):
    run = suite('HERE / "test.sqlite3"')
    project.write(test_it=TEST_CASES)
    run = run("--celery-pools=solo")
    text = run.failure("InTransaction::test_hidden")
    assert "Derive InTransaction from django.test.TransactionTestCase" in text
    assert "Mark it django_db" not in text
    assert run.outcomes()["Committing::test_seen"] == "passed", run.output
    assert "Mark it django_db(transaction=True)" in run.failure("OfUnittest::test_hidden")


def test_a_database_in_memory_is_refused_with_what_to_do(suite, project):
    run = suite("None")("--celery-pools=solo")
    text = run.failure("test_hidden_rows[solo]")
    assert "no worker is started: the test database 'default' is an in-memory SQLite database" in text
    assert "'TEST'" in text
    assert not (project.path / "real.sqlite3").exists()


IN_MEMORY = """
import django, pytest
from django.db import connection
from django.conf import settings
from celery import Celery

if not settings.configured:
    settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
    django.setup()

app = Celery("reports")

@app.task
def total(*amounts):
    with connection.cursor() as cursor:
        return cursor.execute("SELECT " + " + ".join(map(str, amounts))).fetchone()[0]

@pytest.mark.celery_expect
def test_total():
    assert total.delay(1, 2).get(timeout=10) == 3

@pytest.mark.celery_expect
@pytest.mark.django_db
def test_with_a_database():
    assert total.delay(1, 2).get(timeout=10) == 3
"""


def test_a_real_database_in_memory_is_nobodys_so_that_a_test_without_one_gets_its_worker(project):
    project.write(test_it=IN_MEMORY)
    options = ("-ppytest_django.plugin", "--celery-app=test_it:app", "--celery-pools=solo")
    run = project.run(*options, "-k", "total")
    assert run.outcomes()["test_total[solo]"] == "passed", run.output
    run = project.run(*options, "-k", "with_a_database")
    assert "no worker is started" in run.failure("test_with_a_database[solo]")


@pytest.mark.slow
def test_each_node_of_xdist_has_its_own(suite, project):
    run = suite('HERE / "test.sqlite3"')("--celery-pools=solo,threads", "-n2", "-k", "not hidden")
    assert set(run.outcomes().values()) == {"passed"}, run.output
    assert not (project.path / "real.sqlite3").exists()
