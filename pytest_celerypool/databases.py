"""Django's test databases: a worker writes to those of its pytest process, or does not start."""

from __future__ import annotations

import sys
from typing import Any

from pytest_celerypool.errors import WorkerError


def databases_of_tests(request: Any) -> dict[str, str]:
    """Return the names of the test databases by alias, created if need be; empty without pytest-django.

    One is left out where the project's own database is in memory too and the test uses none: then each process has its
    own as it does when the project runs, and nothing of anybody's can be written to.

    :param request: a pytest request.
    :raises WorkerError: a test database exists only inside this process.
    """
    if not _django_is_active(request.config):
        return {}
    from django.db import connections

    own = {alias: connections[alias].settings_dict.get("NAME") for alias in connections}
    request.getfixturevalue("django_db_setup")
    names = {}
    for alias in connections:
        connection = connections[alias]
        engine = connection.settings_dict.get("ENGINE", "")
        if engine.endswith(".dummy"):
            continue
        name = str(connection.settings_dict["NAME"])
        if connection.vendor == "sqlite" and connection.is_in_memory_db():
            if own[alias] == ":memory:" and not _uses_databases(request.node):
                continue
            raise WorkerError(
                f"no worker is started: the test database {alias!r} is an in-memory SQLite database, which no other "
                "process can open, and the worker must not write to the real one. Give the test database a file: "
                f"DATABASES[{alias!r}]['TEST'] = {{'NAME': BASE_DIR / 'test.sqlite3'}}."
            )
        names[alias] = name
    return names


def _uses_databases(item: Any) -> bool:
    """Whether a test asks pytest-django, or a base class of Django's, for databases."""
    fixtures = {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback"}
    return (
        not fixtures.isdisjoint(getattr(item, "fixturenames", ()))
        or item.get_closest_marker("django_db") is not None
        or bool(getattr(getattr(item, "cls", None), "databases", None))
    )


def hidden_rows(item: Any) -> str:
    """Say that the current test's open transaction hides its rows from the worker; empty if it does not.

    :param item: the pytest item of the test that runs.
    """
    if not _django_is_active(item.config):
        return ""
    from django.db import connections

    hidden = [alias for alias in connections if connections[alias].in_atomic_block]
    if not hidden:
        return ""
    return (
        f"This test runs inside a database transaction ({', '.join(hidden)}): the worker, another process, sees none "
        f"of the rows that the test wrote. {_way_out(getattr(item, 'cls', None))}"
    )


def _way_out(cls: type | None) -> str:
    """Say how a test of the class `cls`, ``None`` for a plain function, does without the transaction."""
    # Imported already if the class is one of Django's.
    of_django = getattr(sys.modules.get("django.test"), "TestCase", None)
    if cls is not None and of_django is not None and issubclass(cls, of_django):
        return (
            f"Derive {cls.__name__} from django.test.TransactionTestCase: a django.test.TestCase opens the transaction "
            "itself, whatever pytest-django's marker and fixtures say."
        )
    return "Mark it django_db(transaction=True), or use transactional_db."


def _django_is_active(config: Any) -> bool:
    # pytest-django may be installed for another project of the environment, without Django even.
    conf = sys.modules.get("django.conf")
    # Its name as an entry point, and as it is loaded with -p.
    loaded = any(config.pluginmanager.hasplugin(name) for name in ("django", "pytest_django.plugin"))
    return loaded and conf is not None and bool(conf.settings.configured)
